"""A flow with a critic: what the discriminator of a GAN is worth to a likelihood.

A likelihood asks that no image be improbable; what the flow paints between two kinds of images costs it nothing.  A
critic looks at nothing else.  So the flow first learns by likelihood alone, and for the rest of the run by both (Grover
et al. 2018; by a critic alone it paints well, but its likelihood is lost):

    critic    L_D of `parts/critic.py`
    flow      L = -log p(x | c)  +  w E softplus( D(x, c) - D(f^-1(z | c), c) ),      z ~ N(0, I)

What it paints is the flow run backwards, at temperature 1 and unguided, as the likelihood has it, and not rounded to 8
bits.  Real pixels lie on 256 levels, which a critic would see at once; so it is shown them dequantised as in training.

The two terms have no common unit.  In each shard w makes their gradients at the pictures y, in logits (real ones in the
first term, painted ones in the second), lengths of a given ratio (Esser et al. 2021, eq. 7, at the last layer):

    w = critic_weight |dL_likelihood / dy| / |dL_critic / dy|

With respect to pixels the first is up to 1 / margin times as long where they are black, so nothing else would count.
"""

from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.families.flow.bijectors import Composition
from generators.families.flow.realnvp import RealNVP, RealNVPConfig, gaussian_log_density, uniform_noise
from generators.family import Phase, Shard
from generators.parts.critic import GuestCriticConfig, WithCritic, painter_loss
from generators.parts.guidance import drop_captions
from nn.tensor import Function, Tensor, no_grad


@dataclass(frozen=True)
class FlowGANConfig(RealNVPConfig, GuestCriticConfig):
    begins: float = number(0.5, most=1)  # the share of the run after which the critic comes in
    critic_weight: float = number(0.3)  # of its gradient at the picture, against the likelihood's; 0: no critic


class Balance(Function):
    """(a, b) as they are;  db = weight |da| / |db| db: b's gradient becomes `weight` times as long as a's."""

    def forward(ctx, a, b, weight):
        ctx.weight = weight
        return a, b

    def backward(ctx, da, db):
        length = np.linalg.norm(db)
        return da, db * (ctx.weight * np.linalg.norm(da) / length if length else 0)


class FlowGAN(WithCritic, RealNVP):
    """A flow that is also judged by what it paints.  It samples, reconstructs and edits as `RealNVP` does."""

    name = "flowgan"
    Config = FlowGANConfig

    def __init__(self, config: FlowGANConfig, rng: np.random.Generator):
        super().__init__(config, rng)
        self.add_critic(config.critic_width, rng)

    def phases(self, step: int) -> list[Phase]:
        """The flow's by likelihood; later the critic's, too, and the flow's by both."""
        config = self.config
        if config.critic_weight and step >= config.begins * self.total_steps:
            return self.in_turn("flow", self.loss_with_critic, config.critic_optimiser)
        return self.in_turn("flow", self.loss)[1:]

    def real(self, shard: Shard, rng: np.random.Generator) -> np.ndarray:
        """The shard's images, from -1 to 1, dequantised as for the likelihood."""
        with no_grad():
            noise = uniform_noise(shard.images.shape, rng)
            return self.spread(shard.images, noise, self.conditioning(shard.tokens))[0].data * 2 - 1

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        z = Tensor(self.noise(len(shard.tokens), rng, temperature=1.0))
        return self.flow.inverse(z, self.conditioning(shard.tokens)) * 2 - 1

    def loss_with_critic(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L; its value is the sum of both terms with w = 1, its gradient has w."""
        logit, rest = self.flow.links[0], Composition(*self.flow.links[1:])
        condition = self.conditioning(drop_captions(shard.tokens, self.config.caption_dropout, rng))
        x, log_slope = self.spread(shard.images, uniform_noise(shard.images.shape, rng), condition)
        y, log_det = logit.forward(x, condition)
        noise = Tensor(self.noise(len(shard.tokens), rng, temperature=1.0))
        painted = rest.inverse(noise, self.conditioning(shard.tokens))
        y, painted = Balance.apply(y, painted, weight=self.config.critic_weight)
        z, more = rest.forward(y, condition)
        loss, metrics = self.cost(gaussian_log_density(z) + log_det + more + log_slope, condition, shard)
        shown = logit.inverse(painted, None) * 2 - 1
        unconvinced = painter_loss(self.discriminator, self.real(shard, rng), shown, shard.tokens)
        unconvinced = unconvinced * (1 / shard.batch_size)
        return loss + unconvinced, metrics | {"unconvinced": unconvinced.item()}

"""A flow with a critic: what the discriminator of a GAN is worth to a likelihood.

A likelihood asks that no image be improbable, and says little of what is painted beside them: what lies between two
kinds of images costs it nothing.  A critic sees just that, since it looks at what the flow paints.  So the flow first
learns by likelihood alone, and for the rest of the run by both (Grover et al. 2018, who find that a critic alone paints
well and ruins the likelihood):

    critic    L_D of `parts/critic.py`
    flow      L = -log p(x | c)  +  w E softplus( D(x, c) - D(f^-1(z | c), c) ),      z ~ N(0, I)

What it paints is the flow run backwards, at temperature 1 and unguided, since that is the distribution which the
likelihood is about.  It is not rounded to 8 bits: no gradient comes back through rounding.  As a critic would see at
once that real pixels lie on 256 levels and painted ones between them, it is shown real pictures that are dequantised by
the noise on which the flow is trained.

The two terms have no common unit.  Following Esser et al. 2021 (eq. 7) w is chosen in each step so that their gradients
at the picture have a given ratio of lengths:

    w = weight |dL_likelihood / dy| / |dL_critic / dy|

y is the picture on the scale of logits, which is the flow's own: with respect to pixels the likelihood's gradient is up
to 1 / margin times as long where they are black, so nothing else would count.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.families.flow.bijectors import Bijector, Composition
from generators.families.flow.realnvp import RealNVP, RealNVPConfig, gaussian_log_density, uniform_noise
from generators.family import Phase, Shard
from generators.parts.critic import GuestCriticConfig, WithCritic, painter_loss
from generators.parts.guidance import drop_captions
from nn.tensor import Function, Tensor, no_grad


@dataclass(frozen=True)
class FlowGANConfig(RealNVPConfig, GuestCriticConfig):
    begins: float = number(0.5, most=1)  # the share of the run after which the critic comes in
    weight: float = number(0.3)  # of the critic's gradient at the picture, against the likelihood's; 0: no critic


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

    @property
    def links(self) -> tuple[Bijector, Bijector]:
        """The flow in two: pixels to logits, and all the rest."""
        first, *rest = self.flow.links
        return first, Composition(*rest)

    def phases(self, step: int) -> list[Phase]:
        """The flow's by likelihood; later the critic's, too, and the flow's by both."""
        config = self.config
        if config.weight and step >= config.begins * self.total_steps:
            return self.in_turn("flow", self.loss_with_critic, config.critic_optimiser)
        return self.in_turn("flow", self.loss)[1:]

    def real(self, shard: Shard, rng: np.random.Generator) -> np.ndarray:
        """The shard's images, from -1 to 1, dequantised as for the likelihood."""
        with no_grad():
            noise = uniform_noise(shard.images.shape, rng)
            return self.spread(shard.images, noise, self.conditioning(shard.tokens))[0].data * 2 - 1

    def logits(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        """What the flow makes of fresh noise under the shard's captions, before it is squeezed into [0, 1]."""
        z = rng.standard_normal((len(shard.tokens), self.dimensions), dtype=np.float32)
        return self.links[1].inverse(Tensor(z), self.conditioning(shard.tokens))

    def shown(self, logits: Tensor) -> Tensor:
        """Logits (n, H, W, C) as the critic sees them, pictures from -1 to 1."""
        return self.links[0].inverse(logits, None) * 2 - 1

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        return self.shown(self.logits(shard, rng))

    def loss_with_critic(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L; its value is the sum of both terms with w = 1, its gradient has w."""
        condition = self.conditioning(drop_captions(shard.tokens, self.config.caption_dropout, rng))
        x, log_p = self.spread(shard.images, uniform_noise(shard.images.shape, rng), condition)
        for_logit, rest = self.links
        y, log_det = for_logit.forward(x, condition)
        y, painted = Balance.apply(y, self.logits(shard, rng), weight=self.config.weight)
        z, more = rest.forward(y, condition)
        loss, metrics = self.cost(gaussian_log_density(z) + log_det + more + log_p, condition, shard)
        unconvinced = painter_loss(self.discriminator, self.real(shard, rng), self.shown(painted), shard.tokens)
        unconvinced = unconvinced * (1 / shard.batch_size)
        return loss + unconvinced, metrics | {"unconvinced": unconvinced.item()}

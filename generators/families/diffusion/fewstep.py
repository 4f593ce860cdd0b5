"""Diffusion in one to four steps: a denoiser that a critic teaches to paint at once.

At the highest noise a denoiser's guess of the clean image is a blur, the average of all that fits the caption
(`ddpm.py`), which is why a sampler needs many steps.  But the guess is a function from noise and caption to a picture,
as a GAN's generator is, and its network already knows what digits look like.  So take that guess as the finished
picture, and train the denoiser on with the critic of `parts/critic.py` alone (Zheng et al. 2025, D2O):

    one step        x_0 = guess(x_T, T),   x_T ~ N(0, I)

With more steps it may look again at what it has made, under fresh noise of a lower level (Song et al. 2023, algorithm
1).  Each step is trained on what the earlier ones have made, as it will find it when it paints, and not on real images
under noise (Yin et al. 2024b, section 4.5):

    a step more     x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps,   x_0 <- guess(x_t, t)

    inkling train ddpm --out runs/teacher
    inkling train fewstep --from runs/teacher --out runs/quick

The critic sees pictures as people do, from black to white: what lies beyond is cut off.  So where there is no ink the
guess need only be black or beyond, rather than black to the last digit, and what noise is left in it does not show.
Beyond black and white there is no gradient, which is of little matter if a teacher's guesses are there for a reason.

Without --from the same network is a GAN from scratch.  There is no guidance: the critic reads captions itself.
"""

from dataclasses import dataclass, replace

import numpy as np

from generators.config import number
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import DDPM, DDPMConfig, Diffusion, Fresh, to_unit
from generators.family import OptimiserConfig, Phase, Shard
from generators.parts.critic import OF_THE_GAME, GuestCriticConfig, WithCritic
from nn import functional as F
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor, no_grad


@dataclass(frozen=True)
class FewStepConfig(DDPMConfig, GuestCriticConfig):
    steps: int = number(1, least=1, most=4)  # looks at a picture until it is finished
    optimiser: OptimiserConfig = replace(OF_THE_GAME, rate=5e-4)


class FewStep(WithCritic, Diffusion):
    """A denoiser whose guesses are pictures, and its critic, updated in turn.  It has no way back into noise."""

    name = "fewstep"
    Config = FewStepConfig
    build_network, of_ink = DDPM.build_network, DDPM.of_ink

    def __init__(self, config: FewStepConfig, rng: np.random.Generator):
        if config.prediction == "noise":  # a guess read off the noise is divided by nearly 0 at T
            raise ValueError("fewstep: prediction must not be 'noise', off which no picture can be read at T; use 'v'")
        super().__init__(config, rng)
        self.times(config.steps)  # refused if there are fewer in all
        self.add_critic(config.critic_width, rng)

    def phases(self, step: int) -> list[Phase]:
        return self.in_turn("student", self.generator_loss, self.config.critic_optimiser)

    def guess(self, x: np.ndarray, t: int, tokens: np.ndarray) -> Tensor:
        """Of the clean images, from -1 to 1 or a little beyond, given noisy ones x (N, H, W, C) at time t."""
        times = np.full(len(x), t)
        output = self.network(Tensor(x), times, self.text(tokens))
        return process.clean_image(output, x, times, self.alpha_bar, self.config.prediction)

    def picture(self, x: np.ndarray, tokens: np.ndarray, times: list[int], rng: np.random.Generator) -> Tensor:
        """The guess at the last of `times`, from noise x (N, H, W, C) at the first; gradients of the last step only."""
        for t, s in zip(times[:-1], times[1:], strict=True):
            with no_grad():
                clean = self.guess(x, t, tokens).data
            eps = rng.standard_normal(x.shape).astype(x.dtype)
            x = process.q_sample(clean, np.full(len(x), s), eps, self.alpha_bar)
        return self.guess(x, times[-1], tokens)

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        """Pictures after one of the steps, each as often, from -1 to 1."""
        times = self.times(self.config.steps)[: rng.integers(self.config.steps) + 1]
        return F.clip(self.picture(self.noise(len(shard.tokens), rng), shard.tokens, times, rng), -1, 1)

    def sample(
        self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None, steps: int | None = None
    ) -> np.ndarray:
        """One new image per caption, (N, H, W, C) in [0, 1], in so many steps (None: the config's)."""
        captions, steps = self.asked(captions, rng), self.config.steps if steps is None else steps
        times, tokens = self.times(steps)[:-1], self.vocabulary.encode(captions)
        start, rngs = self.noise(len(captions), rng), rng.spawn(len(captions))
        paint = lambda part: self.picture(start[part], tokens[part], times, Fresh(rngs[part])).data  # noqa: E731
        return to_unit(map_shards(paint, len(captions), threads, processes=True))

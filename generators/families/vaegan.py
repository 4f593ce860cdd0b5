"""A VAE with a critic: what the discriminator of a GAN is worth to another method.

A VAE is told how far each pixel is from the original, so wherever its vector z does not say, it paints the average of
what might be there: a blur (`vae.py`).  A GAN's critic says only whether a picture looks real and fits its caption, so
its painter stays sharp; but there is no way back from a picture to its noise, and nothing keeps the painter from
leaving out kinds of images (`gan.py`).  So let the critic judge what a VAE's decoder paints (Larsen et al. 2016):

    critic       L_D of `parts/critic.py`
    painters     L = closeness * ( 1/2 |x - decoder(z, c)|^2 + KL( q(z|x,c) || N(0, I) ) )  "paint this image close"
                   + E softplus( D(x, c) - D(decoder(z, c), c) )                            "and a real one"

In the first line of L, z is read off the image; in the second so it is for one half of the pictures, for the other it
is random.  Larsen et al. judge both kinds, too, but keep the critic's gradient from the encoder; here it gets there.
The first line ties each z to an image, so that no kind of image is forgotten; the second fills in what z leaves open.

The first line is a sum over hundreds of pixels, the second a single score: at closeness 1 the critic has no influence,
at 0 this is a GAN.  Half the squared distance is -log of a Gaussian of width 1, far too wide for pixels from -1 to 1.
A learned width, as the VAE has for gray images, grows until closeness no longer matters (docs/notebook.md has the
figures; and closeness in the critic's features, which Larsen et al. prefer to pixels).

Read on: `VAEGAN.loss`; `vae.AutoEncoder` for what can be done with z, `parts/critic.py` for the critic.
"""

from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.families.vae import AutoEncoder, AutoEncoderConfig, reparameterise
from generators.family import Phase, Shard
from generators.parts.critic import CriticConfig, WithCritic, painter_loss
from nn import functional as F
from nn.tensor import Tensor


@dataclass(frozen=True)
class VAEGANConfig(CriticConfig, AutoEncoderConfig):
    latent: int = number(64, least=1)  # numbers in z: as many as a GAN's noise has, for the critic wants details, too
    closeness: float = number(0.01)  # the weight of distance and KL, in nats per image, beside the critic


def half_of(shard: Shard) -> int:
    """How many of a shard's images the critic sees as they come back through z: half, rounded up."""
    return (len(shard.images) + 1) // 2


class VAEGAN(WithCritic, AutoEncoder):
    """An auto-encoder and a discriminator, updated in turn.  It samples, reconstructs and edits as the VAE does."""

    name = "vaegan"
    Config = VAEGANConfig

    def __init__(self, config: VAEGANConfig, rng: np.random.Generator):
        super().__init__(config, rng)
        self.add_critic(config.width, rng)

    def expected(self, outputs: Tensor) -> Tensor:
        return F.tanh(outputs) * 0.5 + 0.5

    def phases(self, step: int) -> list[Phase]:
        return self.in_turn("painters", self.loss)

    def paint(self, z: Tensor, caption: Tensor) -> Tensor:
        """Images (N, H, W, C) from -1 to 1."""
        return F.tanh(self.decoder(z, caption))

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        """What the critic has to tell from real pictures: the first half of the images after the way through z, and new
        pictures for the captions of the others."""
        caption, half = self.text(shard.tokens), half_of(shard)
        mean, log_var = self.encoder(shard.images[:half], caption[:half])
        z = reparameterise(mean, log_var, self.noise(half, rng))
        return self.paint(F.concat([z, Tensor(self.noise(len(caption) - half, rng))], axis=0), caption)

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L: close to the image from the z that was read off it, and real to the critic, from that z or another."""
        caption, real, half = self.text(shard.tokens), shard.images * 2 - 1, half_of(shard)
        n = len(real)
        mean, log_var = self.encoder(shard.images, caption)
        z = reparameterise(mean, log_var, self.noise(n, rng))
        more = F.concat([z, Tensor(self.noise(n - half, rng))], axis=0)
        pictures = self.paint(more, F.concat([caption, caption[half:]], axis=0))
        back, new = pictures[:n], pictures[n:]
        error = back - real
        distance = F.sum(error * error, axis=(1, 2, 3)) * 0.5
        kl = F.gaussian_kl(mean, log_var)
        shown = F.concat([back[:half], new], axis=0)
        unconvinced = painter_loss(self.discriminator, real, shown, shard.tokens) * (1 / shard.batch_size)
        loss = F.sum(distance + kl) * (self.config.closeness / shard.batch_size) + unconvinced
        return loss, {
            "distance": float(distance.data.sum()) / shard.batch_size,
            "kl": float(kl.data.sum()) / shard.batch_size,
            "unconvinced": unconvinced.item(),
        }

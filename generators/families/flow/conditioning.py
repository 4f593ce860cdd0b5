"""What a flow is told of a caption, and the networks that use it.

Every coupling and the dequantiser compute from one half of an image and the caption what to do with the other half
(`CouplingNetwork`).  A caption reaches them as words, which scale and shift channels, and for ink as `Sketches`, too.
"""

import math
from dataclasses import dataclass

import numpy as np

from generators.parts.blocks import modulated_norm
from generators.parts.patches import squeeze, unsqueeze
from generators.parts.text import CaptionPrior
from nn import functional as F
from nn import init
from nn.modules import Conv2d, Linear, Module
from nn.tensor import Parameter, Tensor


@dataclass(frozen=True)
class Conditioning:
    """words: the captions' embedding, (N, features); sketches of what they may mean: (N, H/2, W/2, K * 4C), or None."""

    words: Tensor
    sketches: Tensor | None


class Sketches(Module):
    """A few pictures of what a caption may mean, learned by squared error.

    Which digit it is, is three bits among hundreds, so a likelihood learns it late.  Squared error learns it in a few
    hundred steps, and a coupling that has a sketch beside its half of the image need only compare the two, place by
    place.  (The likelihood's gradient reaches the sketches as well.)

    A single sketch would be the average of all that fit the caption: a blur (`families/regression.py`), in which a
    small eight has no holes.  Of K sketches, each image mostly trains the nearest, so they become different: where the
    caption leaves it open, one leans to the left, one is small, one thin.  They are the means of a mixture of K
    Gaussians, equally wide and equally likely (Bishop 1994, eq. 22, 23 and 29), whose -log p is, but for a factor and a
    constant,

        mixture = -t log( 1/K sum_k exp(-e_k / t) ),     e_k: the mean squared error of sketch k

    the least e_k, or up to t log K more.  t stands for the width and is not learned: it is far larger than the
    likelihood would choose, so that a sketch which is nearly as good as the nearest learns too.  A sketch that begins
    far behind all others would never be the nearest, so a small share of the error goes to all of them:

        error = (1 - share) mixture + share mean_k e_k

    Words (N, features) -> (N, H/2, W/2, K * 4C): K images from -1 to 1, squeezed, side by side along the channels.
    """

    HIDDEN = 128
    TEMPERATURE = 0.02  # t, of errors that end at about 0.15; a sketch worse by 0.02 learns a third as much
    SHARE = 0.05  # of the error, that every sketch has

    def __init__(self, count: int, features: int, image_shape: tuple[int, int, int], rng: np.random.Generator):
        height, width, channels = image_shape
        self.count, self.shape = count, (height // 2, width // 2, count * 4 * channels)
        self.hidden = Linear(features, self.HIDDEN, rng)
        self.output = Linear(self.HIDDEN, count * height * width * channels, rng)

    def __call__(self, words: Tensor) -> Tensor:
        return self.output(F.silu(self.hidden(words))).reshape(len(words), *self.shape)

    def images(self, sketches: Tensor) -> np.ndarray:
        """Sketches (N, H/2, W/2, K * 4C) for people to look at: (N, K, H, W, C) in [0, 1]."""
        painted = [unsqueeze(sketch).data for sketch in F.split(sketches, self.count, axis=-1)]
        return np.clip((np.stack(painted, axis=1) + 1) / 2, 0, 1)

    def error(self, sketches: Tensor, images: np.ndarray) -> Tensor:
        """How far off sketches (N, H/2, W/2, K * 4C) are from images (N, H, W, C) in [0, 1], as above, (N,)."""
        target = squeeze(Tensor(images * 2 - 1))
        errors = F.stack([F.mse(sketch, target) for sketch in F.split(sketches, self.count, axis=-1)], axis=1)
        log_mean_exp = F.logsumexp(errors * (-1 / self.TEMPERATURE), axis=1) - math.log(self.count)
        return (1 - self.SHARE) * -self.TEMPERATURE * log_mean_exp + self.SHARE * F.mean(errors, axis=1)


class CouplingNetwork(Module):
    """Scale and shift from the half that stays: a small residual network of 3x3 convolutions.

    x (N, size, size, inputs), Conditioning -> (N, size, size, outputs).  The words modulate every norm.  The last layer
    begins at zero, so that the coupling begins as the identity.

    sketch_channels: of the sketches at this size, which are put beside x; 0 if there are none.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, width: int, depth: int, features: int, sketch_channels: int,
        rng: np.random.Generator,
    ):  # fmt: skip
        self.size = size
        self.enter = Linear(inputs + sketch_channels, width, rng)
        self.position = Parameter(init.zeros((size, size, width)))  # where in the picture: a bias for every pixel
        self.norms = [modulated_norm(width) for _ in range(depth)]
        self.convolutions = [Conv2d(width, width, 3, rng) for _ in range(depth)]
        self.norm = modulated_norm(width)
        self.caption = Linear(features, 2 * width * (depth + 1), rng)  # [scale - 1 | shift] for each norm, `norm` last
        self.leave = Linear(width, outputs, rng)
        self.leave.weight.data[...] = 0

    def __call__(self, x: Tensor, condition: Conditioning) -> Tensor:
        if (sketches := condition.sketches) is not None:
            x = F.concat([x, sketches if sketches.shape[1] == self.size else squeeze(sketches)], axis=-1)
        h = self.enter(x) + self.position
        *modulations, last_modulation = F.split(self.caption(condition.words), len(self.norms) + 1, axis=-1)
        for norm, convolution, modulation in zip(self.norms, self.convolutions, modulations, strict=True):
            h = convolution(norm(h, modulation), onto=h)
        return self.leave(self.norm(h, last_modulation))


class NoisePrior(CaptionPrior):
    """The caption's prior, as the last layer of a flow: of a Conditioning it reads the words.

    Conditioning -> (N, 2 * variables), the log-scales, then the means.
    """

    def __call__(self, condition: Conditioning) -> Tensor:
        return super().__call__(condition.words)

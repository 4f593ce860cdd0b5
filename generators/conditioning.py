"""What a flow is told of a caption, and the networks that listen to it.

Every coupling and the dequantiser ask one half of an image, and what the caption says, what to do with the other half
(`CouplingNetwork`).  What it says reaches them in words, as numbers that scale and shift channels, and for ink also as
a picture, the `Sketch`.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.blocks import modulated_norm, squeeze
from nn import functional as F
from nn import init
from nn.modules import Conv2d, Linear, Module
from nn.tensor import Parameter, Tensor


@dataclass(frozen=True)
class Conditioning:
    """words: the captions' embedding, (N, features); sketch: what they look like, (N, H/2, W/2, 4C), or None."""

    words: Tensor
    sketch: Tensor | None


class Sketch(Module):
    """The picture that a caption calls up: the average of all that fit it, which is what squared error teaches.

    As a picture that is a blur (`generators/regression.py`), but it is a good hint.  To a likelihood which digit it is
    means three bits among hundreds, and it learns it late; squared error learns it in a few hundred steps, and a
    coupling that has the sketch beside its half of the image need only compare the two, place by place.  (The
    likelihood may pull at the sketch, too.)

    Words (N, features) -> (N, H/2, W/2, 4C): an image from -1 to 1, squeezed.
    """

    HIDDEN = 128

    def __init__(self, features: int, image_shape: tuple[int, int, int], rng: np.random.Generator):
        height, width, channels = image_shape
        self.shape = (height // 2, width // 2, 4 * channels)
        self.hidden = Linear(features, self.HIDDEN, rng)
        self.output = Linear(self.HIDDEN, height * width * channels, rng)

    def __call__(self, words: Tensor) -> Tensor:
        return self.output(F.silu(self.hidden(words))).reshape(len(words), *self.shape)

    def error(self, sketch: Tensor, images: np.ndarray) -> Tensor:
        """The mean squared error of sketches of these images (N, H, W, C) in [0, 1], (N,)."""
        return F.mse(sketch, squeeze(Tensor(images * 2 - 1)))


class CouplingNetwork(Module):
    """What a coupling asks about the half that stays: a small residual network of 3x3 convolutions.

    x (N, size, size, inputs), Conditioning -> (N, size, size, outputs).  The words modulate every norm.  The last layer
    begins at zero, so that the coupling begins as the identity.

    sketch_channels: of the sketch at this size, which is put beside x; 0 if there is none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        width: int,
        depth: int,
        features: int,
        sketch_channels: int,
        rng: np.random.Generator,
    ):
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
        if condition.sketch is not None:
            sketch = condition.sketch if condition.sketch.shape[1] == self.size else squeeze(condition.sketch)
            x = F.concat([x, sketch], axis=-1)
        h = self.enter(x) + self.position
        *modulations, last_modulation = F.split(self.caption(condition.words), len(self.norms) + 1, axis=-1)
        for norm, convolution, modulation in zip(self.norms, self.convolutions, modulations, strict=True):
            h = h + convolution(norm(h, modulation))
        return self.leave(self.norm(h, last_modulation))


class CaptionPrior(Linear):
    """What the last Gaussian asks the caption: log-scale and mean of every variable, both 0 at first.

    Conditioning -> (N, 2 * variables)
    """

    def __init__(self, features: int, variables: int, rng: np.random.Generator):
        super().__init__(features, 2 * variables, rng)
        self.weight.data[...] = 0

    def __call__(self, condition: Conditioning) -> Tensor:
        return super().__call__(condition.words)

"""What every family's sampler makes of what it is asked in Python, and how a model introduces itself."""
import inspect
from dataclasses import replace

import numpy as np
import pytest

import datasets
from datasets import CaptionError
from datasets.captions import HANDWRITING
from generators import registry
from nn.parallel import Threads
from tests.generators.toys import of_images


@pytest.fixture(scope="module", params=of_images(registry.able("sample")))
def model(request):
    kind, row = registry.family(request.param), registry.FAMILIES[request.param]
    config = replace(kind.Config(), vocabulary=HANDWRITING.vocabulary, language=HANDWRITING.name, **row.tiny)
    made = registry.build(request.param, config, np.random.default_rng(0))
    images = datasets.load("digits", "test", 4).images / np.float32(255)
    made.prepare(images, made.vocabulary.encode(["two"] * 4), np.random.default_rng(0))
    return made


def methods(model):
    """What paints from captions and an rng."""
    painting = [getattr(model, verb) for verb in ("sample", "denoise") if registry.can(model, verb)]
    if registry.can(model, "wander"):
        painting.append(lambda captions, rng, *threads: model.wander(captions, rng, 2, *threads))
    return painting


def test_one_caption_may_come_alone(model):
    """Catches one picture for each letter, and another noise than for a list of one."""
    for method in methods(model):
        alone = method("a bold seven", np.random.default_rng(0), Threads(1))
        listed = method(["a bold seven"], np.random.default_rng(0), Threads(1))
        np.testing.assert_array_equal(alone, listed)
    assert model.sample("a bold seven", np.random.default_rng(0)).shape == (1, 28, 28, 1)
    assert len(model.sample(("two", ""), np.random.default_rng(0))) == 2


@pytest.mark.parametrize(
    ("captions", "rng", "error", "words"),
    [
        ("two", 0, TypeError, r"np\.random\.default_rng\(0\); given 0$"),
        ("two", np.random, TypeError, "default_rng"),
        ("two", np.random.RandomState(0), TypeError, "default_rng"),
        ("bold thin", np.random.default_rng(0), CaptionError, "two things about the stroke"),
        (["two", "zero with a bar"], np.random.default_rng(0), CaptionError, "a zero is never"),
        (["two", 7], np.random.default_rng(0), TypeError, "given 7$"),
    ],
)  # fmt: skip
def test_what_cannot_be_painted_is_refused_in_a_sentence(model, captions, rng, error, words):
    for method in methods(model):
        with pytest.raises(error, match=words):
            method(captions, rng)


IMAGES, LISTED = np.zeros((1, 28, 28, 1), np.float32), "a list of texts, one for each image; given '"
EXPECTED = r"one for each caption: \({}, 28, 28, 1\); given \({}\)$"


@pytest.mark.parametrize(
    ("images", "captions", "error", "words"),
    [
        (IMAGES, "two", TypeError, LISTED),
        (IMAGES, [7], TypeError, "given 7$"),
        (IMAGES, ["bold thin"], CaptionError, "two things about the stroke"),
        (IMAGES[0], ["two"], ValueError, EXPECTED.format(1, "28, 28, 1")),
        (IMAGES[..., 0], ["two"], ValueError, EXPECTED.format(1, "1, 28, 28")),
        (IMAGES, ["two", "two"], ValueError, EXPECTED.format(2, "1, 28, 28, 1")),
    ],
)  # fmt: skip
def test_images_and_captions_that_do_not_fit_are_refused_in_a_sentence(model, images, captions, error, words):
    """Catches a caption that is read letter by letter, and any of several arguments that nobody looks at."""
    right = {"first": IMAGES, "second": IMAGES, "images": IMAGES, "captions": ["two"], "wanted": ["two"], "steps": 2}
    for verb in ("reconstruct", "interpolate", "edit"):
        if not hasattr(model, "encode"):
            continue
        method = getattr(model, verb)
        needed = {name: right[name] for name in right if name in inspect.signature(method).parameters}
        bad = captions if images is IMAGES else images
        for name, value in needed.items():
            if name != "steps" and isinstance(value, list) == isinstance(bad, list | str):
                with pytest.raises(error, match=words):
                    method(**{**needed, name: bad})


def test_a_model_says_what_it_is(model):
    assert repr(model) == (
        f"<{model.name}: {model.parameter_count():,} parameters, images 28x28x1, {len(HANDWRITING.vocabulary)} words>"
    )

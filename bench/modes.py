"""Does the GAN find everything there is?  Stacked digits: `python -m bench modes`.

Three digits, drawn at random, in the three colour channels of one image: 1,000 equally frequent modes, and no caption
to tell them apart.  A GAN is trained on such images, paints 26,000, and a judge of single digits reads each channel.
Counted are the modes met, and how far their frequencies are from uniform (KL divergence, in nats; a perfect generator
still scores 0.019, for the luck of 26,000 draws).  A generator that has collapsed meets few.

Source: Metz et al. 2017, section 3.3.1; Srivastava et al. 2017, section 4.2.
"""
import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
from bench.kept import trained
from datasets.captions import Names
from datasets.dataset import Dataset
from disk import files
from generators import plans
from generators.judging.classifier import Classifier
from generators.showing import pictures
from nn.parallel import Threads, derive_rng

IMAGES, SAMPLES, MODES = 60_000, 26_000, 1000


def stack(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` images of three channels, each a digit drawn at random and on its own; no captions, no classes."""
    chosen = derive_rng(seed, "stacked digits").integers(0, len(dataset), (count, 3))
    images = np.stack([dataset.images[column, :, :, 0] for column in chosen.T], axis=-1)
    return Dataset(f"stacked {dataset.name}", images, np.zeros(count, np.int64), ("",), Names(("",), ()))


def modes_of(images: np.ndarray, judge: Classifier, threads: Threads) -> np.ndarray:
    """The mode, 0 to 999, that the judge of single digits reads in each image (N, H, W, 3), (N,)."""
    digits = []
    for channel in range(3):
        values = judge.judge(np.ascontiguousarray(images[..., channel : channel + 1]), threads).values
        digits.append(next(iter(values.values())))  # the digit, or the class: what is read first
    return digits[0] * 100 + digits[1] * 10 + digits[2]


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    threads, out = Threads(options.threads), Path(options.out)
    single = datasets.load(options.data, "train")
    stacked = stack(single, IMAGES, options.seed)
    keep = partial(trained, seed=options.seed, threads=threads)
    config = plans.default_config("classifier", single)
    judge, _ = keep(out, config, "classifier", single, options.data, options.judge_minutes)
    config = replace(plans.default_config("gan", stacked), features=8)  # there are no captions to read
    model, _ = keep(out, config, "gan", stacked, stacked.name, options.minutes)
    rng, painted = derive_rng(options.seed, "stacked samples"), []
    for _ in tqdm(range(0, SAMPLES, 500), desc="painting", unit="block"):
        painted.append(pictures.to_uint8(model.sample([""] * 500, rng, threads=threads)))
    images = np.concatenate(painted)
    met, divergence = mode_coverage(modes_of(images, judge, threads), MODES)
    pictures.write_samples(out / "samples.png", images[:100])
    print(f"modes met: {met} of {MODES}; KL to uniform: {divergence:.3f} nats (a perfect generator: 0.019)")
    generator, discriminator = model.generator.parameter_count(), model.discriminator.parameter_count()
    print(f"parameters: generator {generator:,}, discriminator {discriminator:,}; pictures: {out / 'samples.png'}")
    if options.json:
        figures = {"data": options.data, "minutes": options.minutes, "modes": met, "kl": divergence}
        files.write_json(options.json, figures)
    return 0


def mode_coverage(modes: np.ndarray, count: int) -> tuple[int, float]:
    """(modes met, KL divergence in nats of their frequencies from uniform) among `count`, for modes (N,) in [0, count).

    A perfect generator still scores about (count - 1) / 2N, for the luck of the draw.
    """
    frequencies = np.bincount(modes, minlength=count) / len(modes)
    met = frequencies[frequencies > 0]
    return len(met), float((met * np.log(met * count)).sum())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench modes", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=("digits", "mnist"), help="default: digits")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training the GAN (default: 30)")
    parser.add_argument("--judge-minutes", type=float, default=4.0, help="of training the judge (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", default="out/modes", help="folder of the runs and pictures (default: out/modes)")
    parser.add_argument("--json", metavar="FILE")
    return parser

"""The mathematics of diffusion: how an image becomes noise, and how to walk back.  Arrays and numbers only, no network.

Forwards is easy.  An image x_0 is faded a little and a little noise is added, T times over, until nothing of it is
left.  Sums of Gaussians are Gaussian, so any number of these steps is one step (Ho et al. 2020, eq. 4):

    x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps,   eps ~ N(0, I)                          (`q_sample`)

The *schedule* ab_0, ..., ab_T ("alpha bar") says how much of the image's variance is left: ab_0 = 1, nothing has
happened; ab_T near 0, all is noise; in between it only falls.  Arrays have T + 1 entries: entry t belongs to time t.

Backwards needs x_0, which is what we are after.  But if something can *guess* it from x_t, the rest is arithmetic: x_t
and the guess give eps, and from both follows the distribution of the slightly cleaner x_s, s < t.  So a sampler here
asks for one thing, a function `predict_clean(x_t, t) -> x_0`.  At each step a better guess replaces the last, since a
less noisy image is easier to guess from.

Shapes: images x (N, ...); t is a whole number for all of them, or an array (N,), or, where the parts of an image (the
frames of a film) differ in noise, an array of the first axes of x.  float32 stays float32.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeVar

import numpy as np

Guess = TypeVar("Guess")  # of x_0: an array, or a tensor of another library
PredictClean = Callable[[np.ndarray, int], np.ndarray]  # (x_t, t) -> the guess of x_0
Step = Callable[[np.ndarray, np.ndarray, float, float], tuple[np.ndarray, float]]  # -> mean and variance of x_s

# --- the schedule ----------------------------------------------------------------------------------------------------


def cosine_alpha_bar(steps: int) -> np.ndarray:
    """ab_0 .. ab_T that fall along cos^2, slowly at both ends (Nichol and Dhariwal 2021, eq. 17): float64 (T + 1,).

    Variances beta_t that grow evenly (Ho et al. 2020) destroy small images too early, and the last steps teach nothing.
    No step may add more than beta = 0.999, so that ab_T is small and not zero.
    """
    offset = 0.008  # with T = 1000 the first step's noise is 0.0064, a little less than a gray level, 2/255
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


def straight_alpha_bar(steps: int) -> np.ndarray:
    """ab_0 .. ab_T of straight lines from image to noise, which flow matching follows: float64 (T + 1,).

        x_u = (1 - u) x_0 + u eps,   u from 0 to 1       (Lipman et al. 2023, eq. 22; Liu et al. 2023, eq. 1)

    Its variance is (1 - u)^2 + u^2, if the data's is one.  Divided by the root of that, x_u is x_t with

        ab = (1 - u)^2 / ((1 - u)^2 + u^2)

    and so this is a schedule like any other.  Along such a line the velocity of x_u is always eps - x_0, which the
    network may be asked for ("velocity" in `training_target`), and a `ddim_step` is one of Euler's method.  u goes
    evenly to 0.9999, so that ab_T is not zero.
    """
    u = 0.9999 * np.arange(steps + 1) / steps
    return (1 - u) ** 2 / ((1 - u) ** 2 + u**2)


@lru_cache
def schedule(steps: int, kind: str = "cosine") -> np.ndarray:
    """`cosine_alpha_bar` or `straight_alpha_bar`, computed once for each number of steps, read-only."""
    alpha_bar = cosine_alpha_bar(steps) if kind == "cosine" else straight_alpha_bar(steps)
    alpha_bar.flags.writeable = False
    return alpha_bar


def signal_and_noise(alpha_bar: np.ndarray, t: int | np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sqrt(ab_t) and sqrt(1 - ab_t), in x's dtype and in a shape that multiplies the images x."""
    shape = np.shape(t) + (1,) * (x.ndim - np.ndim(t))
    signal, noise = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
    return np.reshape(signal, shape).astype(x.dtype), np.reshape(noise, shape).astype(x.dtype)


# --- forwards: what the network is trained on ------------------------------------------------------------------------


def q_sample(x0: np.ndarray, t: np.ndarray, eps: np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    """x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps (Ho et al. 2020, eq. 4); x0 and eps (N, ...), t (N,)."""
    signal, noise = signal_and_noise(alpha_bar, t, x0)
    return signal * x0 + noise * eps


def draw_times(count: int, steps: int, rng: np.random.Generator, share: np.ndarray | None = None) -> np.ndarray:
    """`count` times from 1 to `steps`, both included, together spread evenly: int64 (count,).

    share: (steps,), share[t-1]: the fraction of draws at or below t; None: all times alike.

    One random offset, then equal distances around the circle, so that no shard sees only clean or only noisy images:
    the loss varies less than with independent draws (Kingma et al. 2021, appendix I.1).
    """
    fractions = (rng.random() + np.arange(count) / count) % 1.0
    if share is not None:
        return np.searchsorted(share, fractions, side="right").astype(np.int64) + 1
    return np.minimum(np.floor(fractions * steps).astype(np.int64), steps - 1) + 1


EVEN_PART = 0.1  # of `middle_share`: how much of an even share every time gets beside the rest


@lru_cache
def middle_share(steps: int, kind: str = "cosine") -> np.ndarray:
    """The `share` of `draw_times` for times mostly from the middle of the schedule: float64 (steps,), read-only.

    Where the image is nearly clear, little is left to decide, and where it is nearly gone, little can be seen.  So
    times are drawn in proportion to ((1 - ab_t)^3 ab_t)^1.5, found by trial (`docs/notebook.md`), and each sometimes,
    for a sampler may ask for any.  The median noise over signal is 1.64; Karras et al. 2022 (section 5), who also train
    mostly on the middle, have 0.30.  The loss is not reweighted in return: errors at these times count more.
    """
    alpha_bar = schedule(steps, kind)[1:]
    density = ((1 - alpha_bar) ** 3 * alpha_bar) ** 1.5
    share = np.cumsum(density / density.sum() + EVEN_PART / steps)
    share /= share[-1]  # the last entry is 1, exactly
    share.flags.writeable = False
    return share


def noisier(t: np.ndarray, factor: float | np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    """The times at which noise over signal is `factor` times what it is at t, at most the last.

    Source: Esser et al. 2024, section 5.3.2.
    What is seen twice, in two frames or in two neighbouring pixels, is seen as if there were less noise.
    """
    levels = np.sqrt(1 / alpha_bar - 1)
    return np.minimum(np.searchsorted(levels, factor * levels[t]), len(levels) - 1)


def training_target(x0: np.ndarray, t: np.ndarray, eps: np.ndarray, alpha_bar: np.ndarray, kind: str) -> np.ndarray:
    """What the network should say of x_t: eps itself ("noise"; Ho et al. 2020), x_0 itself ("image"; Li and He 2025: it
    may be far simpler than its noise), eps - x_0 ("velocity"; see `straight_alpha_bar`), or ("v"; Salimans and Ho 2022,
    section 4)

    v = sqrt(ab_t) eps - sqrt(1 - ab_t) x_0,

    which is the noise where the image is clear and minus the image where it is all noise: the part that is hard to see.
    Its variance is one at every t if the data's is.
    """
    if kind == "noise":
        return eps
    if kind == "image":
        return x0
    if kind == "velocity":
        return eps - x0
    signal, noise = signal_and_noise(alpha_bar, t, x0)
    return signal * eps - noise * x0


def clean_image(
    output: np.ndarray, x_t: np.ndarray, t: int | np.ndarray, alpha_bar: np.ndarray, kind: str
) -> np.ndarray:
    """The x_0 that a network's output means: `training_target` and `q_sample`, solved for x_0."""
    if kind == "image":
        return output
    signal, noise = signal_and_noise(alpha_bar, t, x_t)
    if kind == "noise":
        return (x_t - noise * output) / signal
    if kind == "velocity":
        return (x_t - noise * output) / (signal + noise)
    return signal * x_t - noise * output


# --- backwards: one step ---------------------------------------------------------------------------------------------


def implied_noise(x_t: np.ndarray, x0: np.ndarray, ab_t: float) -> np.ndarray:
    """The eps that leads from x_0 to x_t."""
    return (x_t - math.sqrt(ab_t) * x0) * (1 / math.sqrt(1 - ab_t))


def posterior(x_t: np.ndarray, x0: np.ndarray, ab_t: float, ab_s: float) -> tuple[np.ndarray, float]:
    """Mean and variance of q(x_s | x_t, x_0), s < t (Ho et al. 2020, eq. 6 and 7): one step of their sampler.

    From s to t the variance beta = 1 - ab_t / ab_s of noise was added.  At s = 0 the variance is zero and the mean x_0.
    """
    alpha = ab_t / ab_s
    beta = 1 - alpha
    mean = (math.sqrt(ab_s) * beta / (1 - ab_t)) * x0 + (math.sqrt(alpha) * (1 - ab_s) / (1 - ab_t)) * x_t
    return mean, beta * (1 - ab_s) / (1 - ab_t)


def ddim_step(
    x_t: np.ndarray, x0: np.ndarray, ab_t: float, ab_s: float, eta: float = 0.0
) -> tuple[np.ndarray, float]:
    """Mean and variance of x_s given x_t and a guess of x_0 (Song et al. 2021, eq. 12 and 16).

    Take the image out of x_t; what is left is its noise; put both together again in the proportions of time s.  Noise
    of variance sigma^2 may be fresh: none for eta = 0, where x_T decides everything; as in `posterior` for eta = 1.
    """
    variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    eps = implied_noise(x_t, x0, ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(max(0.0, 1 - ab_s - variance)) * eps, variance


def average_guess(
    first: Guess, ab_first: float, second: Guess, ab_second: float, ab_t: float, ab_s: float
) -> Guess:
    """The guess of x_0 that the step from t to s needs on average, if guesses go along the line through these two.

    Without fresh noise the way back is d(x / noise) = x_0 d(signal / noise), where signal and noise are sqrt(ab) and
    sqrt(1 - ab): `ddim_step`, if x_0 stays the same (Lu et al. 2022b, eq. 8).  Let the guess change linearly in
    lambda = log(signal / noise).  Since d(signal / noise) = e^lambda d lambda, its average over the step is the guess
    at the mean of lambda under the weight e^lambda:

        lambda_s - 1 + h / (e^h - 1),   h = lambda_s - lambda_t

    The line through the last two guesses is extrapolated into the step to be taken (DPM-Solver++(2M); Lu et al. 2022b,
    algorithm 2, which takes the middle, lambda_s - h / 2); the line through the guesses at both ends of a step corrects
    it (UniPC; Zhao et al. 2023, section 3.1).
    """

    def log_snr(ab: float) -> float:
        return 0.5 * math.log(ab / (1 - ab))

    h = log_snr(ab_s) - log_snr(ab_t)
    mean = log_snr(ab_s) - 1 + h / math.expm1(h)
    share = (mean - log_snr(ab_first)) / (log_snr(ab_second) - log_snr(ab_first))
    return first + share * (second - first)


# --- backwards: all the way ------------------------------------------------------------------------------------------


def time_steps(total: int, steps: int) -> list[int]:
    """The times that a sampler visits, from `total` down to 0: `steps` + 1 different whole numbers.

    T sin^2(pi u / 2) for u from 1 to 0: close together at both ends, where an image's large shapes and its finest
    details are decided.  For Gaussian data with the covariance of Fashion-MNIST, 10 second-order steps so leave a
    Frechet distance of 0.7, evenly spaced ones 4.7; 50 steps leave 0.0005 and 0.06.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"the number of sampling steps must be from 1 to {total}; given {steps}")
    done = np.arange(steps + 1)
    times = np.rint(total * np.sin(np.pi / 2 * (1 - done / steps)) ** 2)
    return np.clip(times, steps - done, total - done).astype(int).tolist()  # a number for each, also where it is tight


def reverse_process(
    predict_clean: PredictClean, x: np.ndarray, times: list[int], alpha_bar: np.ndarray, step: Step = ddim_step,
    rng: np.random.Generator | None = None, second_order: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """From noise x at times[0] to an image at times[-1] = 0; yields (x_t, the guess of x_0) for every t, 0 included.

    step: `posterior`, or `ddim_step` with its eta; rng: for those that add noise
    second_order: for steps that add no noise.  Predictor-corrector (UniPC): extrapolate the last two guesses; once the
        next guess is known, redo the step with the mean over both ends.  One network call a step.
    The last pair is the image, twice.
    """
    last = None  # where the step before began: x, the guess of x_0, alpha_bar
    for t, s in zip(times[:-1], times[1:], strict=True):
        ab_t, ab_s = float(alpha_bar[t]), float(alpha_bar[s])
        aim = x0 = predict_clean(x, t)
        if second_order and last is not None:
            x_r, x0_r, ab_r = last
            x, _ = step(x_r, average_guess(x0_r, ab_r, x0, ab_t, ab_r, ab_t), ab_r, ab_t)
            if s > 0:
                aim = average_guess(x0_r, ab_r, x0, ab_t, ab_t, ab_s)
        yield x, x0
        last = x, x0, ab_t
        x, variance = step(x, aim, ab_t, ab_s)
        if variance > 0:  # zero for s = 0: no noise on the finished image
            x = x + math.sqrt(variance) * rng.standard_normal(x.shape).astype(x.dtype)
    yield x, x


def sample(*arguments, **options) -> np.ndarray:
    """The image at the end of `reverse_process`, same arguments."""
    image, _ = deque(reverse_process(*arguments, **options), maxlen=1).pop()
    return image


def inpaint(
    predict_clean: PredictClean, x: np.ndarray, times: list[int], alpha_bar: np.ndarray, known: np.ndarray,
    clean: np.ndarray, rng: np.random.Generator, rounds: int = 5,
) -> np.ndarray:  # fmt: skip
    """From noise x at times[0] to images that are `clean` where they are `known` (bool, broadcast against x).

    In each guess of x_0 the known pixels take the place of the guessed ones, and `posterior` makes x_s of it.  But that
    guess was made of unknown pixels that had not yet heard of the known ones: each is right by itself, and they do not
    fit.  So noise is put back, from s to t, and the step taken again, in all `rounds` times (RePaint; Lugmayr et al.
    2022, algorithm 1).  With many rounds of small steps the unknown is drawn from p(unknown | known); of three
    correlated Gaussian pixels, one of them known, 50 steps leave the means of the others off by 0.57 of their deviation
    with 1 round, by 0.20 with 5.
    """

    def normal() -> np.ndarray:
        return rng.standard_normal(x.shape).astype(x.dtype)

    for t, s in zip(times[:-1], times[1:], strict=True):
        ab_t, ab_s = float(alpha_bar[t]), float(alpha_bar[s])
        for left in reversed(range(rounds)):
            mean, variance = posterior(x, np.where(known, clean, predict_clean(x, t)), ab_t, ab_s)
            x = mean + math.sqrt(variance) * normal()
            if left:
                x = math.sqrt(ab_t / ab_s) * x + math.sqrt(1 - ab_t / ab_s) * normal()
    return x


def invert(
    predict_clean: PredictClean, x0: np.ndarray, times: list[int], alpha_bar: np.ndarray, iterations: int = 2
) -> np.ndarray:
    """The noise at times[0] from which `ddim_step` with eta = 0 leads to the images x0 (Song et al. 2021, section 4.3).

    With sqrt(ab) = cos(phi) and sqrt(1 - ab) = sin(phi), a step is a rotation by d = phi_t - phi_s, in the plane of
    x and v (Salimans and Ho 2022, appendix D):

        x_s = cos(d) x_t - sin(d) v(x_t),  so  x_t = (x_s + sin(d) v(x_t)) / cos(d)

    x_s is known and x_t, which stands on both sides, is found by fixed-point iteration from x_s (Pan et al. 2023).  A
    single iteration is the usual "DDIM inversion"; with a briefly trained network and 50 steps, one, two and three
    iterations brought images back at 33, 56 and 76 dB.
    """
    x = x0
    for t, s in zip(times[-2::-1], times[:0:-1], strict=True):
        phi_t, phi_s = (math.acos(math.sqrt(alpha_bar[i])) for i in (t, s))
        x_s = x
        for _ in range(iterations):
            v = (math.cos(phi_t) * x - predict_clean(x, t)) * (1 / math.sin(phi_t))
            x = (x_s + math.sin(phi_t - phi_s) * v) * (1 / math.cos(phi_t - phi_s))
    return x


def slerp(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    """The point at `fraction` of the way from first to second (N, ...) along the great circle (Shoemake 1985).

    Gaussian noise in many dimensions lies close to a sphere; a straight line would cut through its inside, where the
    denoiser has never been trained.  (For a VAE and a flow the inside is a lower temperature, so they walk straight.)
    """
    shape = (-1,) + (1,) * (first.ndim - 1)
    u, v = (x.reshape(len(x), -1).astype(np.float64) for x in (first, second))
    cosine = np.sum(u * v, axis=1) / (np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1))
    angle = np.maximum(np.arccos(np.clip(cosine, -1, 1)), 1e-6)  # so that equal points give themselves, not 0/0
    weights = np.sin((1 - fraction) * angle) / np.sin(angle), np.sin(fraction * angle) / np.sin(angle)
    w_first, w_second = (w.reshape(shape).astype(first.dtype) for w in weights)
    return w_first * first + w_second * second

"""A world learned by watching films of it: nobody tells what was done, and yet it can be played.

Between two frames something happened that the frames before do not tell.  Let it be one of K codes, and predict the
next frame under each.  Where do the codes come from?  Two ways:

guesses    Nobody chooses: each transition teaches mostly the code under which it is predicted best,

               L = - tau log sum_k pi_k exp(-E_k / tau),

           E_k the squared error of the frame under code k.  This is the likelihood of a mixture of K predictions, and
           tau its temperature: high at first, when every code learns everything, then falling, until each transition
           has one code.  It must not fall slowly: near balance, the more often something happens the more codes gather
           there, and none is left for the rest.  Until the last third a small share of the plain mean of all E_k keeps
           codes alive that explain nothing yet.  What happened between two frames is then the code of the least error:
           no encoder, no codebook.
           Source: multiple choice learning (Guzman-Rivera et al. 2012); latent policies (Edwards et al. 2019, ILPO).
encoder    A second network looks at both frames and picks a code, by a Gumbel softmax (Jang et al. 2017) whose choice
           is hard forward and soft backward; the predictor is told that code (Genie, Bruce et al. 2024).  Nothing
           hinders it from always picking the same one, so the entropy of its choices over a shard is rewarded.

Of transitions in a row, pi_k is higher for the code of the one before, since who acts tends to go on (a hidden Markov
model).  Else nothing would speak against one code that makes bold and another that makes thin, where one key does both.

Left at the left wall looks like stay, and is explained by the code of stay.  So the code of left would never learn what
to paint there, and a key that is pressed at a wall would paint anything.  But who was going left and suddenly changes
nothing in the whole frame has perhaps met a wall: in the last third, when codes mean something, the code that went on
is taught that nothing changes, as much as it is likely that it went on.  How likely is at first little more than the
habit, then a matter of which code explains the halt, as the temperature of this choice falls to a tenth of hot by
five sixths of the run: at a wall nothing speaks against the code that went on, elsewhere all its other transitions
do.  Where something else moves all the time, as on levels 2 and 3 of the playground, no halt is seen.

A predictor that remembers more than the last frame can mean one thing by a code after one history and another thing
after another, since nothing but the next frame judges it; and it reads walls off the way it came, so whoever walks
along a wall and then turns towards it goes through.  So its context is the last frame alone, which shows all that
there is to know of the playground.  Where something moves by itself, as on level 2, more is needed (`context`).

Played, a world sees its own frames, and small errors would add up.  So in training its context is noisy, and it is told
how noisy (Valevski et al. 2024, GameNGen); in the last third of training the context of all but the first transition of
a row is what it predicted itself, without gradient; and what it plays is rounded to 8 bits, as frames of films are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generators.config import choice, from_data, number
from generators.families.world.predictor import Encoder, Predictor
from generators.family import Family, FamilyConfig, OptimiserConfig, Phase, Shard
from generators.parts.patches import check_size
from nn import functional as F
from nn.parallel import map_shards
from nn.tensor import Tensor, no_grad

COOLING = 2000  # steps in which tau falls, at most
HALTED = 3.0  # how much a halt teaches the code that went on, times how likely that is, beside 1 of what explains it


@dataclass(frozen=True)
class WorldConfig(FamilyConfig):
    frames: int = from_data(16, least=2)  # of a film
    codes: int = number(8, least=1, most=64)
    way: str = choice("guesses", "encoder")
    context: int = number(1, least=1, most=16)  # frames; two or more show what moves by itself
    width: int = number(48, least=8, multiple=8)  # channels at half size; twice as many at a quarter
    heads: int = number(4, least=1)
    hot: float = number(20.0, least=1e-3)  # tau at first: squared error of a frame, summed over pixels, white being 1
    cold: float = number(2.0, least=1e-3)  # tau from two thirds of the run on, or from COOLING steps on
    share: float = number(0.05, most=1)  # of the plain mean of all errors, but for the last third
    row: int = number(3, least=1, most=16)  # transitions of a film in one step
    sticky: float = number(0.5, most=0.99)  # how likely the code before goes on by itself, none being drawn
    entropy: float = number(10.0)  # weight of the encoder's, in the units of tau
    noise: float = number(0.15, most=1)  # the highest deviation of that on the context
    batch_size: int = number(24, least=1)  # films, `row` transitions of each
    shard_size: int = number(12, least=1)
    optimiser: OptimiserConfig = OptimiserConfig(final=0.1)


class World(Family):
    """Frames (H, W, C) of films (T, H, W, C), and K codes for what happens between two of them."""

    name = "world"
    Config = WorldConfig

    def __init__(self, config: WorldConfig, rng: np.random.Generator):
        super().__init__(config)
        check_size(self.name, config.image_size, 4)
        self.predictor = Predictor(config.context, config.channels, config.width, config.codes, config.heads, rng)
        if config.way == "encoder":
            self.encoder = Encoder(config.image_size, config.channels, config.width, config.codes, rng)
        self.keys = {str(code + 1): code for code in range(config.codes)}  # name -> code; see `learn_keys`
        self._seen: list[np.ndarray] = []  # the last frames of the game, (H, W, C) or (N, H, W, C) each

    def phases(self, step: int) -> list[Phase]:
        done = step / self.total_steps
        return [Phase("world", self.parameters(), lambda *given: self.loss(*given, done), self.config.optimiser)]

    def loss(self, shard: Shard, rng: np.random.Generator, done: float) -> tuple[Tensor, dict[str, float]]:
        """The error of a row of transitions of each film; done: the share of the run that lies behind."""
        films, n, config = shard.images, len(shard.images), self.config
        row = min(config.row, films.shape[1] - 1)
        begin = rng.integers(0, films.shape[1] - row, n)  # the last frame that is given
        back = np.arange(config.context)[::-1]
        seen = films[np.arange(n)[:, None], np.maximum(begin[:, None] - back, 0)]  # (N, T, H, W, C)
        level = config.noise * rng.random(n, np.float32) * (rng.random(n) < 0.5)
        errors, reward = [], 0.0
        for ahead in range(1, row + 1):
            after = films[np.arange(n), begin + ahead]
            noise = rng.standard_normal(seen.shape, np.float32)
            frames = self.predictor(seen + level[:, None, None, None, None] * noise, level)  # (N, codes, H, W, C)
            if config.way == "encoder":
                frames, entropy = self.picked(frames, seen[:, -1], after, rng, done)
                reward = reward + config.entropy * entropy
            errors.append(squared_error(frames, after))
            best = frames.data[np.arange(n), errors[-1].data.argmin(axis=1)]
            given = rounded(best) if done >= 2 / 3 else after
            seen = np.concatenate([seen[:, 1:], given[:, None]], axis=1)
        errors = F.stack(errors, axis=1)  # (N, row, codes); of an encoder, which has picked one, (N, row, 1)
        share = config.share if done < 2 / 3 else 0.0
        loss = soft_minimum(errors, self.temperature(done), config.sticky) * (1 - share)
        loss = loss + F.sum(F.mean(errors, axis=2), axis=1) * share - reward
        if config.way == "guesses" and done >= 2 / 3:
            shown = films[np.arange(n)[:, None], begin[:, None] + np.arange(row + 1)]
            went = gone_on(errors.data.argmin(axis=2), (shown[:, 1:] == shown[:, :-1]).all(axis=(2, 3, 4)))
            tau = config.hot * 0.1 ** min(1, 6 * done - 4)
            loss = loss + F.sum(errors * halts(errors.data, went, config.sticky, tau), axis=(1, 2)) * HALTED
        least = errors.data.min(axis=2).mean(axis=1).sum() / shard.batch_size
        return F.sum(loss) * (1 / shard.batch_size), {"error": float(least)}

    def temperature(self, done: float) -> float:
        """tau falls geometrically from `hot` to `cold`: over two thirds of the run, but over COOLING steps at most."""
        hot, cold = math.log(self.config.hot), math.log(self.config.cold)
        return math.exp(hot + (cold - hot) * min(1, done * max(1.5, self.total_steps / COOLING)))

    def picked(self, frames: Tensor, before, after, rng, done: float) -> tuple[Tensor, Tensor]:
        """Of frames (N, codes, H, W, C) those of the codes that the encoder picks, (N, 1, H, W, C), and the entropy of
        its choices."""
        logits = self.encoder(before, after)
        noise = -np.log(-np.log(rng.uniform(1e-6, 1 - 1e-6, logits.shape))).astype(logits.dtype)  # Gumbel
        soft = F.exp(F.log_softmax((logits + noise) * (1 / (1 - 0.6 * min(1, 1.5 * done)))))  # temperature 1 to 0.4
        hard = np.eye(soft.shape[1], dtype=soft.dtype)[soft.data.argmax(axis=1)]
        choice = (soft + (hard - soft.data)).reshape(*soft.shape, 1, 1, 1)
        used = F.mean(F.exp(F.log_softmax(logits)), axis=0)
        # The change is linear in a code's scales: under mixed scales it is the mixture of the changes.
        return F.sum(frames * choice, axis=1, keepdims=True), -F.sum(used * F.log(used + 1e-6))

    # What it has learnt ---------------------------------------------------------------------------------------------

    def explain(self, context: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What happened between context (N, T, H, W, C) and the frames (N, H, W, C) after it: codes (N,), and the
        frames (N, H, W, C) that are predicted under them."""
        frames = self.futures(context)
        if self.config.way == "encoder":
            with no_grad():
                codes = self.encoder(context[:, -1], after).data.argmax(axis=1)
        else:
            codes = squared_error(frames, after).data.argmin(axis=1)
        return codes, frames[np.arange(len(codes)), codes]

    def futures(self, context: np.ndarray) -> np.ndarray:
        """The next frames under each code, (N, codes, H, W, C), not rounded yet."""
        with no_grad():
            return self.predictor(context, np.zeros(len(context), np.float32)).data

    def predict(self, context: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The next frames (N, H, W, C) under codes (N,), not rounded yet."""
        return self.futures(context)[np.arange(len(codes)), codes]

    def start(self, frames: np.ndarray) -> np.ndarray:
        """Begin a game at this frame (H, W, C) in [0, 1], or N games at (N, H, W, C).  ValueError for another shape."""
        if frames.shape[-3:] != self.image_shape or frames.ndim not in (3, 4):
            raise ValueError(f"a game begins at a frame {self.image_shape}, or several; given {frames.shape}")
        self._seen = [rounded(frames)] * self.config.context
        return self._seen[-1]

    def step(self, code: int | np.ndarray | str) -> np.ndarray:
        """The next frame, or frames, of the game, after this code, codes (N,), or key of `keys`.

        ValueError before `start`, for an unknown key and for a code that there is not.
        """
        if not self._seen:
            raise ValueError("there is no game yet; call start(frame) first")
        if isinstance(code, str):
            if code not in self.keys:
                raise ValueError(f"there is no key {code!r}; the keys are {', '.join(self.keys)}")
            code = self.keys[code]
        codes = np.atleast_1d(code)
        if codes.dtype.kind not in "iu" or not (0 <= codes.min() <= codes.max() < self.config.codes):
            raise ValueError(f"the codes are 0 to {self.config.codes - 1}; given {code}")
        single = self._seen[-1].ndim == 3
        context = np.stack([frame[None] if single else frame for frame in self._seen], axis=1)
        frame = rounded(self.predict(context, np.broadcast_to(codes, len(context))))
        self._seen = [*self._seen[1:], frame[0] if single else frame]
        return self._seen[-1]

    def play(self, first: np.ndarray, codes) -> np.ndarray:
        """The films (N, 1 + S, H, W, C) of N games from first (N, H, W, C) under codes (N, S); or of one, (H, W, C)
        and S codes or keys, without the axis N."""
        codes = np.asarray(codes)
        frames = [self.start(first), *(self.step(str(c) if codes.dtype.kind == "U" else c) for c in codes.T)]
        return np.stack(frames, axis=first.ndim - 3)

    def learn_keys(self, contexts: np.ndarray, after: np.ndarray, effects: np.ndarray, names: Sequence[str]) -> None:
        """Find the code of each key from transitions (as for `explain`) whose effects (N,) index `names`: one map for
        the whole world, to the code that predicts that effect best on average.  It need not be the one that is inferred
        most often: where two codes share an effect, one may be wrong by far in the other's part."""
        errors = map_shards(lambda part: squared_error(self.futures(contexts[part]), after[part]).data, len(after))
        rows = {name: errors[effects == index] for index, name in enumerate(names)}
        self.keys = {name: int(row.mean(axis=0).argmin()) for name, row in rows.items() if len(row)}


def contexts_of(films: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """All transitions of films (N, T, H, W, C), film after film: (contexts (N (T - 1), context, H, W, C), the frames
    (N (T - 1), H, W, C) after them).  Before the first frame of a film stands that frame again."""
    count, length = films.shape[:2]
    places = np.maximum(np.arange(length - 1)[:, None] - np.arange(context)[::-1], 0)  # (T - 1, context)
    flat = (count * (length - 1), *films.shape[2:])
    return films[:, places].reshape(flat[0], context, *flat[1:]), films[:, 1:].reshape(flat)


def squared_error(frames: Tensor | np.ndarray, after: np.ndarray) -> Tensor:
    """E (N, M): of frames (N, M, H, W, C) against (N, H, W, C), summed over pixels."""
    difference = frames - after[:, None]
    return F.sum(difference * difference, axis=(2, 3, 4))


def soft_minimum(errors: Tensor, tau: float, sticky: float) -> Tensor:
    """- tau log sum_k P(k) exp(-sum_s E_s,k_s / tau) over all rows k = (k_1, k_2, ...) of codes: (N, S, K) -> (N,).

    P(k_1) = 1 / K, and P(k_s | k_s-1) = (1 - sticky) / K, plus `sticky` for the same code again.  The sum over all rows
    goes transition by transition (the forward algorithm; Rabiner 1989, section III A).
    """
    rows, codes = errors.shape[1:]
    reached = errors[:, 0] * (-1 / tau) - math.log(codes)  # log of the sum over all rows that end in each code
    for s in range(1, rows):
        other = F.logsumexp(reached, axis=1, keepdims=True) + math.log((1 - sticky) / codes)
        same = reached + math.log(max(sticky, 1e-30))
        reached = F.logsumexp(F.stack([same, F.broadcast_to(other, same.shape)]), axis=0) - errors[:, s] * (1 / tau)
    return F.logsumexp(reached, axis=1) * -tau


def gone_on(codes: np.ndarray, halted: np.ndarray) -> np.ndarray:
    """What went on before each halt: of codes (N, S) of transitions in a row the last that changed something, or -1.

    halted: (N, S) bool, which transitions changed nothing; the others get -1.
    """
    before, went = np.full(len(codes), -1), np.full(codes.shape, -1)
    for s in range(codes.shape[1]):
        went[:, s] = np.where(halted[:, s], before, -1)
        before = np.where(halted[:, s], before, codes[:, s])
    return went


def halts(errors: np.ndarray, went: np.ndarray, sticky: float, tau: float) -> np.ndarray:
    """How likely it is that each halt was the code that went on, and no other: (N, S, K), 0 for all other codes.

    errors (N, S, K), went (N, S) as `gone_on` gives it.  Before the frame is seen, that the code goes on by habit is
    K sticky / (1 - sticky) times as likely as any one code that is chosen anew (`soft_minimum`).
    """
    codes = errors.shape[2]
    excess = (errors - errors.min(axis=2, keepdims=True)) / tau
    odds = codes * sticky / (1 - sticky) * np.exp(-excess)
    return np.where(went[..., None] == np.arange(codes), odds / (1 + odds), 0).astype(errors.dtype)


def rounded(frames: np.ndarray) -> np.ndarray:
    """To 8 bits, as the frames of films are: float32 in [0, 1]."""
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.float32) * np.float32(1 / 255)

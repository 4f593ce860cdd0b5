"""Has a world that was learned by watching found out what an action is, and does it hold together when played?

    python -m bench world runs/world-playground --json world.json

The playground's law is known, so each answer is checked exactly: the state that a frame shows is that of the nearest of
all 5,760 pictures that there can be.  All of it is measured where the state before was never seen in training.

On levels 2 and 3, where a second digit bounces and specks flicker, there are too many pictures for that: a key is
obeyed where, of the seven frames to which the law may lead, the one painted is nearest to the right one.  No games are
played there, since a game begins with one frame, which does not tell where the second digit is going.

`--steps` also trains what the figures are to be compared with: the same predictor without an action (a single code),
the same one told the true effects, and an inverse model that learns from labels.
"""
import argparse
import json
import time
from dataclasses import replace

import numpy as np

from datasets import playground
from datasets.playground import ACTIONS, COLUMN, DIGIT, PLACES, ROW, STROKE
from disk import files
from generators.apps.play import LEVELS
from generators.errors import UsageError
from generators.families.world.predictor import Encoder
from generators.families.world.world import World, contexts_of
from generators.registry import build, open_run
from generators.showing import pictures
from generators.training import Trainer
from nn import functional as F
from nn.modules import Module
from nn.optim import AdamW
from nn.parallel import FlatParameters, Threads, derive_rng, map_shards
from nn.tensor import Tensor

LABELLED, TRANSITIONS, GAMES = 1000, 2000, 200
LOST = 0.5  # of a digit's ink: a frame further than that from all pictures shows none
LOWEST = 1e-8  # mean squared error: PSNR is at most 80 dB


def every_state() -> np.ndarray:
    """All states, (5760, 5)."""
    return np.argwhere(np.ones((playground.HANDS, 10, 2, PLACES, PLACES), bool))


class Reader:
    """What a frame shows: frames (N, 28, 28, 1) in [0, 1] -> the states (N, 5) of the nearest pictures, and whether
    there is none near, (N,) bool."""

    def __init__(self):
        self.states = every_state()
        pictures = playground.film(self.states[:, None])[:, 0] / np.float32(255)
        self.pictures = pictures.reshape(len(pictures), -1)
        self.squares = (self.pictures**2).sum(axis=1)
        self.ink = (self.pictures.reshape(-1, 28, 28)[:, 1:-1, 1:-1] ** 2).sum(axis=(1, 2))  # without the walls

    def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = frames.reshape(len(frames), -1)
        distances = self.squares - 2 * flat @ self.pictures.T  # less the squares of the frames, alike for all
        nearest = distances.argmin(axis=1)
        away = ((flat - self.pictures[nearest]) ** 2).sum(axis=1)
        return self.states[nearest], away > LOST * self.ink[nearest]


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Of frames in [0, 1] together, in dB."""
    return float(-10 * np.log10(max(np.mean((np.clip(frames, 0, 1) - truth) ** 2), LOWEST)))


class Transitions:
    """Transitions of a split: contexts (N, T, H, W, C), the frame before their last and the one after, (N, H, W, C)
    each, state before (N, 5), action and effect."""

    def __init__(self, split: str, context: int, count: int, level: int = 1):
        films = 2 + 2 * count // (playground.FRAMES - 1) * (5 if split == "unseen" else 1)
        films, self.level = playground.load(level, split, films), level
        contexts, self.after = contexts_of(films.images / np.float32(255), context + 1)
        self.contexts, self.earlier = contexts[:, 1:], contexts[:, -2]
        self.walks, self.action = (part(level, split, len(films)) for part in (playground.states, playground.actions))
        self.state, self.action = self.walks[:, :-1].reshape(-1, 5), self.action.ravel()
        keep = np.ones(len(self.state), bool)
        if split == "unseen":
            keep = playground.held_out()[tuple(self.state.T)]
        self.number = keep = np.flatnonzero(keep)[:count]  # of a transition among all of the films
        for name in ("contexts", "earlier", "after", "state", "action"):
            setattr(self, name, getattr(self, name)[keep])
        self.effect = playground.effects(self.state, self.action)

    def possible(self) -> np.ndarray:
        """The frames to which each action would lead, without specks: (N, 7, H, W, C)."""
        film, time = np.divmod(self.number, playground.FRAMES - 1)
        frames = np.zeros((len(film), len(ACTIONS), *self.after.shape[1:]), np.float32)
        for t in range(playground.FRAMES - 1):
            here = np.repeat(np.flatnonzero(time == t), len(ACTIONS))
            action = np.resize(np.arange(len(ACTIONS)), len(here))
            then = playground.step(self.state[here], action)
            walks = np.concatenate([self.walks[film[here], : t + 1], then[:, None]], axis=1)
            frames[here, action] = playground.film(walks, min(self.level, 2))[:, -1] / np.float32(255)
        return frames


def fit_map(codes: np.ndarray, effects: np.ndarray, count: int) -> np.ndarray:
    """The most frequent effect of each code, (count,)."""
    table = np.zeros((count, len(ACTIONS)), np.int64)
    np.add.at(table, (codes, effects), 1)
    return table.argmax(axis=1)


def accuracies(right: np.ndarray, state: np.ndarray) -> dict[str, float]:
    """The share of right answers, and that in the worst quadrant and for the worst digit."""
    quadrant = 2 * (state[:, ROW] >= PLACES // 2) + (state[:, COLUMN] >= PLACES // 2)
    parts = [right[quadrant == q] for q in range(4)] + [right[state[:, DIGIT] == digit] for digit in range(10)]
    return {"all": float(right.mean()), "worst": float(min(part.mean() for part in parts if len(part)))}


def codes_of(model: World, contexts: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What happened in N transitions, as the model has it: codes (N,)."""
    return map_shards(lambda part: model.explain(contexts[part], after[part])[0], len(after))


def latent(model: World, labelled: Transitions, unseen: Transitions) -> dict:
    """From code to effect by one map; beside it what needs no learning."""
    infer = lambda t: codes_of(model, t.contexts, t.after)  # noqa: E731
    codes, known = infer(unseen), fit_map(infer(labelled), labelled.effect, model.config.codes)
    found = {"accuracy": accuracies(known[codes] == unseen.effect, unseen.state)}
    found["majority"] = float((unseen.effect == np.bincount(labelled.effect).argmax()).mean())
    change = [(t.after - t.contexts[:, -1]).reshape(len(t.after), -1) for t in (labelled, unseen)]
    centres = kmeans(change[0], 8, derive_rng(0, "k-means"))
    near = [nearest(c, centres) for c in change]
    found["k_means"] = float((fit_map(near[0], labelled.effect, 8)[near[1]] == unseen.effect).mean())
    found["displacement"] = float((displacements(unseen) == unseen.effect).mean())
    return found


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)


def kmeans(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Centres (count, D) by Lloyd's rule, 30 rounds."""
    centres = points[rng.permutation(len(points))[:count]]
    for _ in range(30):
        near = nearest(points, centres)
        centres = np.stack([points[near == k].mean(axis=0) if (near == k).any() else centres[k] for k in range(count)])
    return centres


def displacements(t: Transitions) -> np.ndarray:
    """Which move explains the next frame best by correlation; what fits badly counts as next."""
    before, after = t.contexts[:, -1, 1:-1, 1:-1, 0], t.after[:, 1:-1, 1:-1, 0]
    errors = []
    for down, right in playground.MOVES[:5] * playground.STRIDE:
        moved = np.zeros_like(before)
        rows, columns = (slice(max(0, step), 26 + min(0, step)) for step in (down, right))
        back = (slice(max(0, -step), 26 + min(0, -step)) for step in (down, right))
        moved[:, rows, columns] = before[(slice(None), *back)]
        errors.append(((moved - after) ** 2).sum(axis=(1, 2)))
    best = np.argmin(errors, axis=0)
    return np.where(np.min(errors, axis=0) > 1, ACTIONS.index("next"), best)


def lags(model: World, level: int = 1, films: int = 60) -> dict[str, float]:
    """Agreement of codes with the effect one transition before, of the same one, and after: it must peak at 0."""
    count = playground.FRAMES - 1
    images = playground.load(level, "unseen", films).images / np.float32(255)
    states, acted = playground.states(level, "unseen", films)[:, :-1], playground.actions(level, "unseen", films)
    codes = codes_of(model, *contexts_of(images, model.config.context)).reshape(-1, count)
    effects = playground.effects(states.reshape(-1, 5), acted.ravel()).reshape(-1, count)
    found = {}
    for lag in (-1, 0, 1):
        inner, moved = codes[:, 1:-1].ravel(), effects[:, 1 + lag : count - 1 + lag].ravel()
        found[f"{lag:+d}"] = float((fit_map(inner, moved, model.config.codes)[inner] == moved).mean())
    return found


def one_step(model: World, unseen: Transitions, read: Reader) -> dict:
    """The next frame under the inferred code and under a random one; and whether each key is obeyed."""
    rng = derive_rng(0, "random codes")
    last = unseen.contexts[:, -1]
    under = lambda codes: predicted(model, unseen.contexts, codes)  # noqa: E731
    inferred = under(codes_of(model, unseen.contexts, unseen.after))
    random = under(rng.integers(0, model.config.codes, len(last)))
    found = {"psnr": psnr(inferred, unseen.after), "psnr_random": psnr(random, unseen.after)}
    found["gain_db"] = found["psnr"] - found["psnr_random"]
    found["psnr_last_frame"] = psnr(last, unseen.after)
    found["psnr_constant_velocity"] = psnr(2 * last - unseen.earlier, unseen.after)
    actions = rng.integers(0, len(ACTIONS), len(last))
    keys = np.array([model.keys[name] for name in ACTIONS])
    painted = under(keys[actions])
    if unseen.level == 1:
        shown, lost = read(painted)
        right = (shown == playground.step(unseen.state, actions)).all(axis=1) & ~lost
    else:
        away = np.mean((unseen.possible() - painted[:, None]) ** 2, axis=(2, 3, 4))
        right = away.argmin(axis=1) == playground.effects(unseen.state, actions)
    found["obeyed"] = float(right.mean())
    found["obeyed_by_key"] = {name: float(right[actions == i].mean()) for i, name in enumerate(ACTIONS)}
    return found


def predicted(model: World, contexts: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return map_shards(lambda part: model.predict(contexts[part], codes[part]), len(codes))


def free_running(model: World, read: Reader, steps: int, games: int) -> dict[str, float]:
    """Games of random keys from states never seen: how many are right after `steps`, and how many ever lost the digit.

    Right: the place within a pixel, digit and stroke, as the law has them.
    """
    rng = derive_rng(0, "games", steps)
    states = np.argwhere(playground.held_out())
    state = states[rng.permutation(len(states))[:games]]
    keys = np.array([model.keys[name] for name in ACTIONS])
    frames, ever = model.start(playground.film(state[:, None])[:, 0] / np.float32(255)), np.zeros(games, bool)
    for _ in range(steps):
        actions = rng.integers(0, len(ACTIONS), games)
        state, frames = playground.step(state, actions), model.step(keys[actions])
        shown, lost = read(frames)
        ever |= lost
    seen = [DIGIT, STROKE, ROW, COLUMN]
    right = (shown[:, seen] == state[:, seen]).all(axis=1) & ~lost
    drift = (np.rint(frames * 255) - playground.film(state[:, None])[:, 0]) / 255
    return {"right": float(right.mean()), "lost": float(ever.mean()), "drift": float(np.mean(drift**2))}


def speed(model: World) -> float:
    """Frames a second of one game."""
    model.start(playground.film(every_state()[:1, None])[0, 0] / np.float32(255))
    model.step(0)
    begin = time.perf_counter()
    for _ in range(30):
        model.step(0)
    return 30 / (time.perf_counter() - begin)


class Oracle(Module):
    """In the place of an encoder: logits (N, 7) of the true effect, read off the two frames."""

    def __init__(self):
        self.read = Reader()

    def __call__(self, before: np.ndarray, after: np.ndarray) -> Tensor:
        states, new = self.read(before)[0], self.read(after)[0]
        results = np.stack([playground.step(states, np.full(len(states), a)) for a in range(len(ACTIONS))], axis=1)
        effects = (results == new[:, None]).all(axis=2).argmax(axis=1)
        return Tensor(100 * np.eye(len(ACTIONS), dtype=np.float32)[effects])


def compared(model: World, steps: int, threads: Threads, unseen: Transitions) -> dict:
    """The trained baseline (no action) and the two ceilings, each after so many steps.

    The true effects are known on level 1 alone, whose frames tell the state (`Oracle`).
    """
    data, found = playground.load(unseen.level), {}
    others = {"without_action": {"codes": 1}}
    if unseen.level == 1:
        others["true_effects"] = {"way": "encoder", "codes": len(ACTIONS), "entropy": 0.0}
    for name, settings in others.items():
        other = build("world", replace(model.config, **settings), derive_rng(0, "weights"))
        if name == "true_effects":
            other.encoder = Oracle()
        trainer = Trainer(other, data, 0, steps, threads)
        for _ in range(steps):
            trainer.step()
        with trainer.averaged_weights():
            codes = codes_of(other, unseen.contexts, unseen.after)
            found[f"psnr_{name}"] = psnr(predicted(other, unseen.contexts, codes), unseen.after)
        trainer.close()
    found["inverse_model"] = inverse_model(model, steps, unseen)
    return found


def inverse_model(model: World, steps: int, unseen: Transitions) -> float:
    """The accuracy of an encoder that learns from labels, on states never seen."""
    config, seen = model.config, Transitions("train", 1, 20_000, unseen.level)
    encoder = Encoder(config.image_size, config.channels, config.width, len(ACTIONS), derive_rng(0, "weights"))
    flat = FlatParameters(encoder.parameters())
    optimiser = AdamW(flat.values, (0.9, 0.999))
    for step in range(steps):
        chosen = derive_rng(0, "batch", step).integers(0, len(seen.after), 64)
        for parameter in flat.parameters:
            parameter.grad = None
        logits = encoder(seen.contexts[chosen, -1], seen.after[chosen])
        F.mean(F.cross_entropy(logits, seen.effect[chosen])).backward()
        for view, parameter in zip(flat.views(flat.gradient), flat.parameters, strict=True):
            view[...] = parameter.grad
        optimiser.step(flat.gradient, 2e-3 * (1 - step / steps), 1.0)
    logits = map_shards(lambda part: encoder(unseen.contexts[part, -1], unseen.after[part]).data, len(unseen.after))
    return float((logits.argmax(axis=1) == unseen.effect).mean())


def measure(model: World, level: int = 1, games: int = GAMES, count: int = TRANSITIONS) -> dict:
    """All figures of a world of the playground that need no further training."""
    labelled = Transitions("test", model.config.context, LABELLED, level)
    unseen, read = Transitions("unseen", model.config.context, count, level), Reader()
    model.learn_keys(labelled.contexts, labelled.after, labelled.effect, ACTIONS)
    lengths = (1, 16, 64) if level == 1 else ()
    return {
        "level": level,
        "change_by_effect": change_by_effect(level=level),
        "latent": latent(model, labelled, unseen),
        "lags": lags(model, level),
        "teacher_forced": one_step(model, unseen, read),
        "free_running": {str(steps): free_running(model, read, steps, games) for steps in lengths},
        "frames_a_second": speed(model),
    }


def picture(model: World, level: int, count: int = 8):
    """What was there, what came, and what the code that explains it best foretold, for transitions never seen."""
    length = playground.FRAMES - 1
    unseen = Transitions("unseen", model.config.context, 3 * length * count, level)  # some films leave the unseen early
    chosen = np.flatnonzero(unseen.number % length == length // 2)[:count]  # one of a film, in its middle
    codes = codes_of(model, unseen.contexts[chosen], unseen.after[chosen])
    foretold = predicted(model, unseen.contexts[chosen], codes)
    strips = {"before": unseen.contexts[chosen, -1], "after": unseen.after[chosen], "foretold": foretold.clip(0, 1)}
    return pictures.rows(strips, [ACTIONS[effect] for effect in unseen.effect[chosen]])


def change_by_effect(split: str = "train", limit: int = 500, level: int = 1) -> dict[str, float]:
    """How much each effect changes a frame: the mean squared difference per pixel, white being 1, by name.

    A model drops the effects from the smallest on.
    """
    frames = playground.load(level, split, limit).images.astype(np.float32) / 255
    acted = playground.actions(level, split, limit).ravel()
    before = playground.states(level, split, limit)[:, :-1].reshape(-1, 5)
    moved = np.mean((frames[:, 1:] - frames[:, :-1]) ** 2, axis=(2, 3, 4)).ravel()
    effect = playground.effects(before, acted)
    return {name: float(moved[effect == index].mean()) for index, name in enumerate(ACTIONS)}


def table(found: dict) -> list[tuple[str, str, str, str]]:
    """(what, figure, bar, goal)"""
    accuracy, forced, free = found["latent"]["accuracy"], found["teacher_forced"], found["free_running"]
    games = [
        ("16 random keys: all right", f"{free['16']['right']:.1%}", "85%", "95%"),
        ("64 random keys: all right", f"{free['64']['right']:.1%}", "60%", "90%"),
        ("digit lost within 64", f"{free['64']['lost']:.1%}", "5%", "1%"),
    ] if free else []  # fmt: skip
    return [
        ("latent code to effect, states never seen", f"{accuracy['all']:.1%}", "90%", "98%"),
        ("  worst quadrant or digit", f"{accuracy['worst']:.1%}", "80%", "95%"),
        ("PSNR, inferred over random action", f"{forced['gain_db']:.1f} dB", "6 dB", "10 dB"),
        ("key obeyed after one step", f"{forced['obeyed']:.1%}", "95%", "99%"),
        *games,
        ("frames a second", f"{found['frames_a_second']:.0f}", "10", "60"),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m bench world", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the folder of a trained world")
    parser.add_argument("--steps", type=int, default=0, help="train what it is compared with so long (default: not)")
    parser.add_argument("--games", type=int, default=GAMES, help=f"of random keys (default: {GAMES})")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--picture", metavar="FILE.png", help="frames that came, and what was foretold")
    options = parser.parse_args(arguments)
    model, meta = open_run(options.run)
    level = LEVELS.get(meta["plan"].get("data"))
    if not isinstance(model, World) or not level:
        raise UsageError(f"{options.run} holds no world of the playground: inkling train world makes one")
    found = {"steps": meta.get("step"), **measure(model, level, options.games)}
    if options.picture:
        files.write(options.picture, pictures.png_bytes(picture(model, level)))
    if options.steps:
        unseen = Transitions("unseen", model.config.context, TRANSITIONS, level)
        found["compared"] = {"steps": options.steps, **compared(model, options.steps, Threads(options.threads), unseen)}
    if options.json:  # first: what is printed may end in a pipe that breaks
        files.write_json(options.json, found)
    for what, figure, bar, goal in table(found):
        print(f"{what:<42}{figure:>9}   (bar {bar}, goal {goal})")
    print(json.dumps(found, indent=2))
    return 0

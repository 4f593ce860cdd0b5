"""To play in a learned world: by keyboard in the terminal, or on a page; and films of a game that is told beforehand.

A world knows codes, not keys.  For the playground a thousand transitions whose actions are known say which code is
which key; of another world the keys are 1, 2, ... for its codes.
"""

from collections.abc import Callable

import numpy as np

import datasets
from datasets import playground
from datasets.batches import Batches
from generators.errors import UsageError
from generators.families.world.world import World, contexts_of
from generators.showing import pictures
from generators.showing.terminal import half_blocks, opened

LABELLED = 1000  # transitions, to find the keys
LEVELS = {playground.name(level): level for level in playground.LEVELS}


def learn_keys(model: World, data: str) -> None:
    """Give the model the keys of its data set, if that has any."""
    if data in LEVELS:
        level = LEVELS[data]
        films = playground.load(level, "test", 1 + LABELLED // (playground.FRAMES - 1))
        states, acted = (part(level, "test", len(films)) for part in (playground.states, playground.actions))
        effects = playground.effects(states[:, :-1].reshape(-1, 5), acted.ravel())
        contexts, after = contexts_of(films.images / np.float32(255), model.config.context)
        model.learn_keys(contexts[:LABELLED], after[:LABELLED], effects[:LABELLED], playground.ACTIONS)


def first_frame(data: str, seed: int) -> np.ndarray:
    """Where a game begins: the first frame of a test film, float32 (H, W, C)."""
    return Batches(datasets.load(data, "test", 200), 1, seed).at(0).images[0, 0]


def film(model: World, data: str, actions: str, seed: int) -> tuple[np.ndarray, list[str]]:
    """The frames (1 + S, H, W, C) of a game of S actions, named in one text, and what led to each.

    UsageError for an action that is no key of this world.
    """
    learn_keys(model, data)
    asked = actions.replace(",", " ").split()
    if strange := [name for name in asked if name not in model.keys]:
        raise UsageError(f"there is no action {strange[0]!r} in this world; there are {', '.join(model.keys)}")
    return model.play(first_frame(data, seed), np.array(asked, np.str_)), ["start", *asked]


class Game:
    """A game from its first frame on, with all frames so far."""

    def __init__(self, model: World, first: np.ndarray):
        self.model, self.first = model, first
        self.frames = [model.start(first)]
        words = {name[0]: name for name in model.keys if not name.isdigit()}  # n, p; and the first letters of others
        self.bindings = {name: name for name in model.keys} | words

    def press(self, key: str) -> None:
        """A key of the keyboard; one that means nothing here does nothing, "r" begins again."""
        if key == "r":
            self.frames.append(self.model.start(self.first))
        elif key in self.bindings:
            self.frames.append(self.model.step(self.bindings[key]))


def begin(model: World, data: str, seed: int) -> Game:
    """A game in a world of this data set, whose first frame the seed chooses."""
    learn_keys(model, data)
    return Game(model, first_frame(data, seed))


def in_terminal(game: Game) -> None:
    named = "left" in game.model.keys
    keys = "arrows: move   n: next digit   p: pen   s: stay" if named else f"keys: 1 to {min(9, len(game.model.keys))}"
    with opened() as screen:
        while True:
            screen.show([*half_blocks(game.frames[-1]), f"{keys}   r: again   q: quit"])
            key = screen.key()
            if key in ("q", "escape"):
                return
            game.press(key)


def play(model: World, data: str, seed: int, show: Callable[[Game], None], record: str | None) -> int:
    """A game until it is quit; what was played, if anything, is recorded also if it ends by Ctrl-C.

    show: `in_terminal`, or on a page (`explore.py`)
    """
    if record and pictures.kind_of(record) != "film":
        raise UsageError(f"a game is recorded as a film, into a file that ends in .gif; given {record}")
    game = begin(model, data, seed)
    try:
        show(game)
    finally:
        if record and len(game.frames) > 1:
            pictures.write_samples(record, np.stack(game.frames))
    return 0

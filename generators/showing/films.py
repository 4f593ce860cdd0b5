"""Films to look at: several side by side as one GIF, each as a strip of its frames, and one below the other to compare.

Films come as (N, T, H, W, C), float in [0, 1] or uint8.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from generators.showing.pictures import film_of_grids, rows

MILLISECONDS, HOLD = 120, 600  # of a frame, and of the last


def gif(films: np.ndarray, captions: Sequence[str] | None = None, columns: int | None = None, title: str = "") -> bytes:
    """The films in a grid, with their captions, all playing at once."""
    return film_of_grids(np.moveaxis(films, 1, 0), columns, captions, title, MILLISECONDS, HOLD)


def shown(films: Mapping[str, np.ndarray], captions: Sequence[str]) -> dict:
    """How `pictures.write_samples` shows films: a picture has a strip for each, a film plays all at once.

    films: what they are, which stands before the captions -> the films; all of equal number, compared one by one
    """
    names = [f"{name}: " if name else "" for name in films]
    titles = [f"{name}{caption or 'anything'}" for caption in captions for name in names]
    every = np.stack(list(films.values()), axis=1)  # (N, what, T, H, W, C)
    every = every.reshape(-1, *every.shape[2:])
    columns = len(films) if len(films) > 1 else None

    strips = {f"{i + 1}. {title}": film for i, (title, film) in enumerate(zip(titles, every, strict=True))}
    return {"picture": lambda: rows(strips), "film": lambda: gif(every, titles, columns)}

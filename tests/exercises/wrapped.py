"""Wrong solutions of one kind for every exercise: the right one, with something done to what goes in or comes out.

float64, float32    an array of another dtype than was given
remembers           the answer of the first call with these shapes, for ever
one array           the same array at every call
changes its input   by one, after the answer is known
a list              in place of an array, an array in place of a Tensor
new arrays          state that others hold too, replaced
another generator   in the place of `rng`
one for all         each draw of `rng` repeats its first example
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.exercises.catalogue import Exercise
from tests.exercises.surgery import Cut

# Where there is nothing to do it to: results that are no arrays, or None since an argument is written into.
_OBJECTS = {"topological-order", "backward", "parameters", "output-size", "contradicting-captions", "frechet-distance"}
_STATE = {"momentum", "adam", "ema"}
_KERNELS = {"im2col-kernel", "convolution-kernel", "norm-silu-kernel"}
_LOSSES = {"elbo", "ddpm-loss", "discriminator-step"}
_NO_ARRAY = _OBJECTS | _STATE | _KERNELS | _LOSSES | {"sampling-loop"}
_WHOLE = {"drawing-times", "dropping-captions"}
_ANY_FLOAT = {"numerical-gradient", "importance-weighted-bound"}

_EACH = """\
def _each(value, change):
    if isinstance(value, (list, tuple)):
        return type(value)(_each(v, change) for v in value)
    return value if value is None or isinstance(value, (dict, str, int, float)) else change(value)
"""
_CAST = (
    _EACH
    + """\
import numpy as _np
def _cast(value):
    if hasattr(value, "requires_grad"):
        value.data = value.data.astype({0})
        return value
    return _np.asarray(value).astype({0}) if _np.asarray(value).dtype.kind == "f" else value
return _each(_solution({1}), _cast)
"""
)
_SHAPES = """\
import numpy as _np
_key = tuple(_np.shape(getattr(v, "data", v) if hasattr(v, "requires_grad") else v) for v in ({0},))
"""
_BODIES = {
    "float64": _CAST.replace("{0}", "_np.float64"),
    "float32": _CAST.replace("{0}", "_np.float32"),
    "remembers": _SHAPES.replace("{0}", "{1}")
    + """\
_memory = globals().setdefault("_memory", {})
if _key not in _memory:
    _memory[_key] = _solution({1})
return _memory[_key]
""",
    "one array": _EACH
    + """\
import numpy as _np
_memory = globals().setdefault("_memory", {})
def _same(value):
    array = value.data if hasattr(value, "requires_grad") else _np.asarray(value)
    held = _memory.setdefault((array.shape, array.dtype), array.copy())
    held[...] = array
    if hasattr(value, "requires_grad"):
        value.data = held
        return value
    return held
return _each(_solution({1}), _same)
""",
    "changes its input": """\
import numpy as _np
_result = _solution({1})
for _value in ({1},):
    _value = _value.saved[0] if getattr(_value, "saved", ()) else getattr(_value, "images", _value)
    _value = _value.data if hasattr(_value, "requires_grad") else _value
    if isinstance(_value, _np.ndarray) and _value.size:
        _value += 1
        break
return _result
""",
    "a list": _EACH
    + """\
import numpy as _np
def _list(value):
    return value.data if hasattr(value, "requires_grad") else _np.asarray(value).tolist()
return _each(_solution({1}), _list)
""",
    "new arrays": """\
_solution({1})
for _name, _value in list(vars(self).items()):
    if hasattr(_value, "shape"):
        setattr(self, _name, _value.copy())
""",
    "another generator": "import numpy as _np\nrng = _np.random.default_rng()\nreturn _solution({1})\n",
    "one for all": """\
class _Shared:
    def __init__(self, rng):
        self.rng = rng
    def __getattr__(self, name):
        def draw(*arguments, **options):
            drawn = getattr(self.rng, name)(*arguments, **options)
            if getattr(drawn, "ndim", 0):
                drawn[...] = drawn[:1]
            return drawn
        return draw
rng = _Shared(rng)
return _solution({1})
""",
}
_EXCEPT = {
    "float64": _NO_ARRAY | _WHOLE | _ANY_FLOAT | {"schedule", "time-embedding"},
    "float32": _NO_ARRAY | _WHOLE | _ANY_FLOAT | {"he-initialisation", "fixed-point"},
    "remembers": _KERNELS,
    "one array": _NO_ARRAY,
    "changes its input": (_OBJECTS - {"frechet-distance"})
    | _KERNELS
    | {"he-initialisation", "schedule", "drawing-times", "ema"},
    "a list": _NO_ARRAY,
}
_ONLY = {
    "new arrays": _STATE,
    "another generator": {"he-initialisation", "sampling-loop", *_WHOLE, *_LOSSES},
    "one for all": {"he-initialisation", "sampling-loop", "dropping-captions", *_LOSSES},
}


def of(exercise: Exercise, original: Cut) -> Iterator[tuple[str, str]]:
    """(kind, body) for each kind that the exercise can have."""
    for kind, body in _BODIES.items():
        if exercise.id in _ONLY.get(kind, {exercise.id}) - _EXCEPT.get(kind, set()):
            yield kind, around(original, body)
    if exercise.id in _KERNELS:
        yield "changes its input", original.text + "\nx += 1"


def around(original: Cut, body: str) -> str:
    """The solution as `_solution`, and a body that calls it; in there {1} stands for the arguments."""
    a = original.node.args
    call = [arg.arg for arg in [*a.posonlyargs, *a.args]] + ([f"*{a.vararg.arg}"] if a.vararg else [])
    call += [f"{arg.arg}={arg.arg}" for arg in a.kwonlyargs] + ([f"**{a.kwarg.arg}"] if a.kwarg else [])
    solution = "\n".join("    " + line for line in ast.unparse(ast.Module(original.node.body, [])).splitlines())
    return f"def _solution({ast.unparse(a)}):\n{solution}\n" + body.replace("{1}", ", ".join(call))

"""The ops, one file per kind; this file gives tensors their operators and methods.

`a * b` is `mul(a, b)` and `x.sum(0)` is `sum(x, 0)`.  Comparisons give arrays of True and False, which have no graph.
An array or a number of NumPy's on the left of an operator asks by its ufunc; no other ufunc takes tensors, since what
it returns would be cut from the graph.
"""

import operator

import numpy as np

from nn.ops import elementwise, matmul, reduce, shape
from nn.tensor import Tensor


def _on_arrays(compare):
    return lambda a, b: compare(*(one.data if isinstance(one, Tensor) else one for one in (a, b)))


ARITHMETIC = {
    "add": (np.add, elementwise.add), "sub": (np.subtract, elementwise.sub), "mul": (np.multiply, elementwise.mul),
    "truediv": (np.divide, elementwise.div), "pow": (np.power, elementwise.pow), "matmul": (np.matmul, matmul.matmul),
}  # fmt: skip
COMPARISONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal
}  # fmt: skip
UFUNCS = dict(ARITHMETIC.values())
for _name, (_, _op) in ARITHMETIC.items():
    setattr(Tensor, f"__{_name}__", _op)
    setattr(Tensor, f"__r{_name}__", lambda self, other, op=_op: op(other, self))
for _name, _compared in COMPARISONS.items():
    UFUNCS[_compared] = _on_arrays(getattr(operator, _name))
    setattr(Tensor, f"__{_name}__", UFUNCS[_compared])

Tensor.__neg__ = elementwise.neg
Tensor.__getitem__ = shape.getitem
Tensor.exp = elementwise.exp
Tensor.log = elementwise.log
Tensor.sum = reduce.sum
Tensor.mean = reduce.mean


def _ufunc(self, ufunc, method, *inputs, **options):
    if ufunc in UFUNCS and method == "__call__" and not options:
        return UFUNCS[ufunc](*inputs)
    return self.__array_function__(ufunc, (Tensor,), inputs, options)  # raises TypeError


Tensor.__array_ufunc__ = _ufunc


def _several_or_one(values: tuple):
    """x.reshape(2, 3) and x.reshape((2, 3)) are the same."""
    return values[0] if len(values) == 1 and isinstance(values[0], tuple | list) else values


Tensor.reshape = lambda self, *lengths: shape.reshape(self, _several_or_one(lengths))
Tensor.transpose = lambda self, *axes: shape.transpose(self, _several_or_one(axes) if axes else None)

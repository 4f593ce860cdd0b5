"""The ops, one file per kind; this file gives tensors their operators and methods.

`a * b` is `mul(a, b)` and `x.sum(0)` is `sum(x, 0)`: a method does nothing that the function of its name does not.
Comparisons give arrays of True and False, which have no graph.  An array or a number of NumPy's on the left of an
operator asks by its ufunc; no other ufunc takes tensors, since what it returns would be cut from the graph.
"""
from __future__ import annotations

import operator

import numpy as np

from nn.ops import elementwise, matmul, reduce, shape
from nn.tensor import Tensor

OPERATORS = {
    "add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul, "truediv": elementwise.div,
    "pow": elementwise.pow, "matmul": matmul.matmul,
}  # fmt: skip
for _name, _op in OPERATORS.items():
    setattr(Tensor, f"__{_name}__", _op)
    setattr(Tensor, f"__r{_name}__", lambda self, other, op=_op: op(other, self))
Tensor.__neg__ = elementwise.neg
Tensor.__getitem__ = shape.getitem

Tensor.exp = elementwise.exp
Tensor.log = elementwise.log
Tensor.sum = reduce.sum
Tensor.mean = reduce.mean


def _comparison(compare):
    return lambda a, b: compare(*(one.data if isinstance(one, Tensor) else one for one in (a, b)))


Tensor.__lt__, Tensor.__le__ = _comparison(operator.lt), _comparison(operator.le)
Tensor.__gt__, Tensor.__ge__ = _comparison(operator.gt), _comparison(operator.ge)
Tensor.__eq__, Tensor.__ne__ = _comparison(operator.eq), _comparison(operator.ne)

UFUNCS = {
    np.add: elementwise.add, np.subtract: elementwise.sub, np.multiply: elementwise.mul, np.divide: elementwise.div,
    np.power: elementwise.pow, np.matmul: matmul.matmul, np.less: _comparison(operator.lt),
    np.less_equal: _comparison(operator.le), np.greater: _comparison(operator.gt),
    np.greater_equal: _comparison(operator.ge), np.equal: _comparison(operator.eq),
    np.not_equal: _comparison(operator.ne),
}  # fmt: skip


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

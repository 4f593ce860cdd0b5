"""The ops, one file per kind; this file gives tensors their operators and methods.

`a * b` is `mul(a, b)` and `x.sum(0)` is `sum(x, 0)`: a method does nothing that the function of its name does not.
Comparisons give arrays of True and False, which have no graph.
"""
from __future__ import annotations

import operator

from nn.ops import elementwise, matmul, reduce, shape
from nn.tensor import Tensor

Tensor.__add__ = elementwise.add
Tensor.__radd__ = lambda self, other: elementwise.add(other, self)
Tensor.__sub__ = elementwise.sub
Tensor.__rsub__ = lambda self, other: elementwise.sub(other, self)
Tensor.__mul__ = elementwise.mul
Tensor.__rmul__ = lambda self, other: elementwise.mul(other, self)
Tensor.__truediv__ = elementwise.div
Tensor.__rtruediv__ = lambda self, other: elementwise.div(other, self)
Tensor.__pow__ = elementwise.pow
Tensor.__rpow__ = lambda self, other: elementwise.pow(other, self)
Tensor.__matmul__ = matmul.matmul
Tensor.__rmatmul__ = lambda self, other: matmul.matmul(other, self)
Tensor.__neg__ = elementwise.neg
Tensor.__getitem__ = shape.getitem

Tensor.exp = elementwise.exp
Tensor.log = elementwise.log
Tensor.sum = reduce.sum
Tensor.mean = reduce.mean


def _comparison(compare):
    return lambda self, other: compare(self.data, other.data if isinstance(other, Tensor) else other)


Tensor.__lt__, Tensor.__le__ = _comparison(operator.lt), _comparison(operator.le)
Tensor.__gt__, Tensor.__ge__ = _comparison(operator.gt), _comparison(operator.ge)


def _several_or_one(values: tuple):
    """x.reshape(2, 3) and x.reshape((2, 3)) are the same."""
    return values[0] if len(values) == 1 and isinstance(values[0], tuple | list) else values


Tensor.reshape = lambda self, *lengths: shape.reshape(self, _several_or_one(lengths))
Tensor.transpose = lambda self, *axes: shape.transpose(self, _several_or_one(axes) if axes else None)

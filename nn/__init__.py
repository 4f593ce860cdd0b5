"""The engine: reverse-mode autograd on NumPy arrays, ops, layers, and what trains them.  Begin at `tensor.py`."""
from nn import runtime

runtime.configure()  # must come before NumPy is first imported: it chooses the BLAS kernels

from nn import functional  # noqa: E402
from nn.tensor import Function, Parameter, Tensor, no_grad  # noqa: E402

__all__ = ["Function", "Parameter", "Tensor", "functional", "no_grad"]

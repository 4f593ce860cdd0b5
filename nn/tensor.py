"""Reverse-mode automatic differentiation: the whole of it.

A computation is a chain of functions.  The derivative of a number L with respect to any array in it is the derivative
with respect to what came next, pulled back through one function (the chain rule):

    y = f(x)    =>    dL/dx = J_f(x)^T dL/dy            (J_f: the Jacobian of f; dL/dy: the "cotangent" of y)

No op builds its Jacobian.  An op is a `Function` with two methods on NumPy arrays: `forward` computes y, `backward` the
product J^T g.  `Function.apply` runs the forward and leaves a node behind that remembers where its inputs came from;
`Tensor.backward` walks these nodes from the loss to the leaves, each once, after everything that used its output.

Source: Griewank and Walther 2008, "Evaluating Derivatives", chapter 3 (the reverse mode).
"""
from __future__ import annotations

import numpy as np

from nn.dtypes import FIRM, FLOATS, LOOSE, NOTHING, PLAIN, reconcile
from nn.modes import NonFiniteError, check_finite, finite_checks, gradients_into, no_grad
from nn.modes import state as _state

__all__ = [
    "Function", "NonFiniteError", "Parameter", "Tensor", "finite_checks", "gradients_into", "no_grad",
    "topological_order", "unbroadcast",
]  # fmt: skip


class Tensor:
    """An array that remembers how it was computed.

    data           np.ndarray of any shape
    grad           dL/d(data), an array of the same shape, filled in by `backward` on leaves; None before
    requires_grad  whether a gradient is wanted here, or flows through here

    Operators and methods that are ops (`+`, `@`, `[]`, `>`, `.sum()`, ...) are attached in `nn/ops/__init__.py`.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = (x * x).sum()
    >>> loss
    Tensor(14., shape=(), float32, from Sum)
    >>> loss.backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "output_index")
    __hash__ = object.__hash__  # `==` compares numbers

    def __init__(self, data, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise TypeError("Tensor() was given a Tensor; use it as it is, or .detach() to cut it from its graph")
        if _holds_tensors(data):
            raise TypeError("Tensor() was given a list of Tensors; F.stack() joins them and keeps their graph")
        array = np.asarray(data)
        if not isinstance(data, np.ndarray | np.generic) and array.dtype == np.float64:
            array = array.astype(np.float32)  # Python numbers and lists: the dtype that we train in
        if array.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds numbers; given dtype {array.dtype}")
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(
                f"only float tensors can have gradients; given dtype {array.dtype}. Convert it: x.astype(np.float32)"
            )
        self.data = array
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad
        self.node: Function | None = None  # the function that made this tensor; None for a leaf
        self.output_index = 0  # which of the node's outputs it is

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))  # TypeError of a number without axes

    def __repr__(self) -> str:
        origin = f", from {type(self.node).__name__}" if self.node is not None else ""
        wants = ", requires_grad" if self.requires_grad and self.node is None else ""
        values = np.array2string(self.data, precision=4, threshold=8, edgeitems=2, separator=", ")
        values = " ".join(values.split())
        return f"{type(self).__name__}({values}, shape={self.shape}, {self.dtype}{wants}{origin})"

    def item(self) -> float:
        """The value of a tensor that holds one number, as Python's; ValueError if it holds more or none."""
        if self.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not one number: reduce it by .sum(), or take .data")
        return self.data.item()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __array_function__(self, function, types, arguments, options):
        name = function.__name__
        raise TypeError(f"np.{name}() knows no Tensors: use nn.functional, or give it the array, x.data")

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, specification: str) -> str:
        return format(self.item(), specification) if specification else repr(self)

    def detach(self) -> Tensor:
        """The same array as a constant: no gradient flows through it."""
        return Tensor(self.data)

    def backward(self, grad: np.ndarray | None = None) -> None:
        """Add dL/dx to `x.grad` for every leaf x that this tensor was computed from, then free the graph.

        grad: the cotangent dL/d(self), of this tensor's shape; may be left out for a single number, where it is 1.
        Raises RuntimeError if there is no graph, or no longer, ValueError if `grad` is missing or of another shape.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> y = 1 / x
        >>> y.backward([1.0, 10.0])
        >>> x.grad  # -1 / x^2, times the cotangent
        array([-1. , -2.5], dtype=float32)
        """
        if not self.requires_grad:
            raise RuntimeError("backward() on a tensor that depends on no tensor with requires_grad=True")
        if grad is None and self.size != 1:
            raise ValueError(
                f"backward() without a gradient needs a single number, but this tensor has shape {self.shape}; "
                "reduce it first (for instance with .sum()) or pass the gradient of the loss with respect to it"
            )
        grad = np.ones_like(self.data) if grad is None else np.asarray(grad, dtype=self.dtype)
        if grad.shape != self.shape:
            raise ValueError(f"backward() was given a gradient of shape {grad.shape}; the tensor's is {self.shape}")
        if self.node is None:
            _add_to_leaf(self, grad)
            return
        order = topological_order(self.node)
        self.node.receive(self.output_index, grad)
        while order:  # popped, so that a node's arrays are free as soon as it has been used
            node = order.pop()
            gradients = node.pull_back()
            for position, (tensor, need, gradient) in enumerate(zip(node.inputs, node.needs, gradients, strict=True)):
                if not need or gradient is None:
                    continue
                if gradient.shape != tensor.data.shape:
                    _check_broadcast(node, position, gradient.shape, tensor.data.shape)
                    gradient = unbroadcast(gradient, tensor.data.shape)
                if tensor.node is None:
                    _add_to_leaf(tensor, gradient)
                else:
                    tensor.node.receive(tensor.output_index, gradient)
            node.free()


class Parameter(Tensor):
    """A leaf tensor that training changes."""

    __slots__ = ()

    def __init__(self, data):
        super().__init__(data, requires_grad=True)


class Function:
    """A differentiable function; an instance is one use of it, a node of the graph.

    A subclass defines two functions on NumPy arrays, static without saying so; `ctx` is the instance:
        forward(ctx, *inputs, **options) -> array, or a tuple of arrays
        backward(ctx, *grads) -> one gradient per input (None where none flows), a lone one without a tuple
    An input is what a gradient could flow to; all else, such as labels, is an option.  Integers become floats before
    they reach `forward`, unless the class says `integers=True`: of integers, sums, products and moves make integers.
    Neither method changes its arguments.  Where an input was broadcast, `backward` may return a gradient of the shape
    of the output, and it may return one array twice: the engine sums and copies where it has to.

    >>> class Cube(Function):
    ...     def forward(ctx, x):
    ...         ctx.save(x)
    ...         return x**3
    ...
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved
    ...         return grad * 3 * x**2
    >>> Cube.apply(Tensor([1.0, 2.0]))
    Tensor([1., 8.], shape=(2,), float32)
    """

    __slots__ = ("inputs", "needs", "saved", "_outputs", "_received", "_owned", "__dict__")

    def __init_subclass__(cls, integers: bool = False):
        cls.integers = integers
        for name in {"forward", "backward"} & vars(cls).keys():
            setattr(cls, name, staticmethod(vars(cls)[name]))

    def save(self, *arrays) -> None:
        """Keep what `backward` will need; it finds them in `ctx.saved`, in the same order."""
        self.saved = arrays

    @classmethod
    def apply(cls, *inputs, **options):
        """Run `forward` on the inputs (tensors, arrays, numbers or None) and record it for backward."""
        ctx = cls()
        ctx.saved = ()
        arrays, ctx.needs = _unwrap(cls, inputs)
        for name, option in options.items():
            if isinstance(option, np.generic | np.ndarray) and option.ndim == 0:
                options[name] = option.item()
        try:
            outputs = cls.forward(ctx, *arrays, **options)
        except ValueError as error:
            if "broadcast" not in str(error):
                raise
            shapes = " and ".join(str(np.shape(a)) for a in arrays if a is not None)
            raise ValueError(f"{cls.__name__}: the shapes {shapes} do not broadcast") from error
        several = isinstance(outputs, tuple)
        results = outputs if several else (outputs,)
        if _state.check_finite:
            check_finite(results, f"the forward pass of {cls.__name__}")
        if True not in ctx.needs:
            tensors = [_result(array, None, 0) for array in results]
        else:
            ctx.inputs = inputs
            ctx._outputs = [(array.shape, array.dtype) for array in results]
            ctx._received = [None] * len(results)
            ctx._owned = ()
            tensors = [_result(array, ctx, index) for index, array in enumerate(results)]
        return tuple(tensors) if several else tensors[0]

    def receive(self, index: int, grad: np.ndarray) -> None:
        """Add to the gradient with respect to an output, which waits here for the node's turn."""
        held = self._received[index]
        if held is None:
            self._received[index] = grad  # not ours to change: an op may have returned it for two inputs
        elif index in self._owned:  # a sum that we made ourselves, safe to add to in place
            self._received[index] += grad  # stored again, since of numbers without axes NumPy makes a new one
        else:
            self._received[index] = held + grad
            self._owned += (index,)

    def pull_back(self) -> tuple:
        """The gradients with respect to the inputs, given those that were received (none counts as zero)."""
        pairs = zip(self._received, self._outputs, strict=True)
        result = self.backward(self, *(np.zeros(*output) if grad is None else grad for grad, output in pairs))
        if not isinstance(result, tuple):
            result = (result,)
        if len(result) != len(self.inputs):
            raise RuntimeError(
                f"{type(self).__name__}.backward returned {len(result)} gradients for {len(self.inputs)} inputs"
            )
        if _state.check_finite:
            check_finite(result, f"the backward pass of {type(self).__name__}")
        return result

    def free(self) -> None:
        """Let go of inputs and saved arrays; a second backward through this node is an error from now on."""
        self.__dict__.clear()
        self.inputs = self.saved = self._received = None


def topological_order(node: Function) -> list[Function]:
    """Every node that `node` depends on, and itself, each after all of its own inputs.

    Depth-first with a stack of its own, so that a chain of 10,000 functions does not exhaust Python's.  A node that is
    popped for the first time goes back below its inputs; when it comes up again they are all in the order.
    """
    order: list[Function] = []
    seen: set[Function] = set()
    stack = [(node, False)]
    while stack:
        current, inputs_done = stack.pop()
        if inputs_done:
            order.append(current)
        elif current not in seen:
            seen.add(current)
            stack.append((current, True))
            stack.extend((parent, False) for parent in _parents(current))
    return order


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum `grad` over the axes that broadcasting `shape` to `grad.shape` had added or stretched.

    y_ij = x_j for all i is what broadcasting means, so dL/dx_j = sum_i dL/dy_ij.

    >>> unbroadcast(np.ones((5, 3)), (1, 3))
    array([[5., 5., 5.]])
    """
    added = grad.ndim - len(shape)
    stretched = tuple(added + i for i, n in enumerate(shape) if n == 1 and grad.shape[added + i] != 1)
    return grad.sum(axis=tuple(range(added)) + stretched).reshape(shape)


def _check_broadcast(node: Function, position: int, given: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an input of this shape broadcasts to the shape of its gradient."""
    try:
        fits = np.broadcast_shapes(given, shape) == given
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{type(node).__name__}.backward returned a gradient of shape {given} for input {position} (counted from "
            f"0), which has shape {shape}; a gradient has that shape, or one to which the input broadcasts"
        )


def _holds_tensors(data) -> bool:
    return isinstance(data, list | tuple) and any(isinstance(one, Tensor) or _holds_tensors(one) for one in data)


def _result(array: np.ndarray, node: Function | None, index: int) -> Tensor:
    """What an op returns; Tensor() without its checks, which would cost as much as a small op."""
    tensor = object.__new__(Tensor)
    tensor.data = array if type(array) is np.ndarray else np.asarray(array)
    tensor.grad = None
    tensor.requires_grad = node is not None
    tensor.node = node
    tensor.output_index = index
    return tensor


def _add_to_leaf(leaf: Tensor, grad: np.ndarray) -> None:
    if _state.sink is not None:
        _state.sink[id(leaf)] += grad
    elif leaf.grad is None:
        leaf.grad = np.array(grad, dtype=leaf.dtype)  # a copy: the array may belong to somebody else
    else:
        leaf.grad += grad


def _unwrap(function: type[Function], inputs: tuple) -> tuple[list, list[bool]]:
    """What `forward` gets for the inputs, and which of them need a gradient.

    Arrays of one float dtype, Python's numbers and None pass as they are; the rest takes the longer way, `reconcile`.
    """
    arrays, needs, dtype, common = [], [], None, True
    recording, sink = _state.recording, _state.sink
    for value in inputs:
        if isinstance(value, Tensor):
            array = value.data
            needs.append(
                recording and value.requires_grad and (value.node is not None or sink is None or id(value) in sink)
            )
        else:
            array = value
            needs.append(False)
            if value is None or type(value) is float or type(value) is int:
                arrays.append(array)
                continue
            common = common and type(value) is np.ndarray and value.ndim > 0
        if common:
            dtype = array.dtype if dtype is None else dtype
            common = array.dtype is dtype
        arrays.append(array)
    if not common or dtype is None or dtype not in FLOATS:
        arrays = [None if v is None else v.data if isinstance(v, Tensor) else Tensor(v).data for v in inputs]
        arrays = reconcile(function.__name__, arrays, [_rank(value) for value in inputs], function.integers)
    return arrays, needs


def _rank(value) -> int:
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.ndim > 0):
        return FIRM
    return NOTHING if value is None else LOOSE if isinstance(value, np.generic | np.ndarray) else PLAIN


def _parents(node: Function) -> list[Function]:
    if node.inputs is None:
        raise RuntimeError(
            "backward() through a graph that an earlier one has freed; compute the loss again, or add losses up first"
        )
    return [t.node for t, need in zip(node.inputs, node.needs, strict=True) if need and t.node is not None]

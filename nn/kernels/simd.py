"""Vectors for Numba: sixteen float32 (or eight float64) numbers that one instruction adds or multiplies at once.

LLVM turns a simple loop into vector instructions by itself.  It gives up on loops that touch many rows of an array (a
Winograd tile has 36), because it cannot prove that no two overlap.  So a `@kernel` may use vectors explicitly:

    v = load_some(x, i, count)       the numbers from x.ravel()[i] on; lanes beyond `count` are 0
    w = 2.0 * v - v / u              arithmetic on all lanes, between vectors, or a vector and a number
    store_some(out, i, w, count)     writes no more than `count` of them
    prefetch(x, i, 0)                begins to bring them near, for later

where x is C-contiguous and i a flat index, not checked against the bounds; `count` is what is left of a row, and may
be more than a vector has.  A vector is 64 bytes: an AVX-512 register and a cache line; on other machines LLVM cuts it
into the pieces that they have.  `lanes(x)` is how many numbers of x's dtype that is, known at compile time.

The arithmetic may contract a*b + c into one fused operation; nothing else is relaxed, and NaN stays NaN.
"""
import operator

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

BYTES = 64


class Vector(types.Type):
    """The Numba type of a vector of `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.count = BYTES * 8 // dtype.bitwidth
        super().__init__(f"Vector({dtype} x {self.count})")


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager, vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.count))


def _splat(builder, scalar, count):
    """`count` lanes set to one number."""
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def constant_vector(context, vector, number):
    llvm_type = context.get_value_type(vector)
    return ir.Constant(llvm_type, [ir.Constant(llvm_type.element, float(number))] * vector.count)


# ---- arithmetic ---------------------------------------------------------------------------------------------------


def _define_operator(functions, emit):
    """Teach Numba `vector op vector`, `vector op number`, `number op vector` and `op vector`."""

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            vectors = [a for a in args if isinstance(a, Vector)]
            if vectors and all(isinstance(a, Vector | types.Number) for a in args):
                return signature(vectors[0], *(a if isinstance(a, Vector) else vectors[0].dtype for a in args))
            return None

    def lower(context, builder, sig, args):
        pairs, count = zip(sig.args, args, strict=True), sig.return_type.count
        operands = [v if isinstance(t, Vector) else _splat(builder, v, count) for t, v in pairs]
        return getattr(builder, emit)(*operands, flags=("contract",))

    for function in functions:
        infer_global(function)(Template)
        for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector), (Vector,)):
            lower_builtin(function, *kinds)(lower)


_define_operator((operator.add, operator.iadd), "fadd")
_define_operator((operator.sub, operator.isub), "fsub")
_define_operator((operator.mul, operator.imul), "fmul")
_define_operator((operator.truediv, operator.itruediv), "fdiv")
_define_operator((operator.neg,), "fneg")


@intrinsic
def unless_negative(typing_context, vector, other):
    """The vector, but `other` in the lanes in which it is negative; NaN is not."""

    def lower(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], constant_vector(context, vector, 0)), *args[::-1])

    return vector(vector, vector), lower


# ---- memory -------------------------------------------------------------------------------------------------------


@intrinsic
def lanes(typing_context, array):
    """How many of the array's numbers make a vector."""
    count = Vector(array.dtype).count
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, count)


@intrinsic
def splat(typing_context, like, number):
    """A vector of the same kind as the vector or array `like`, all lanes set to one number."""
    vector = like if isinstance(like, Vector) else Vector(like.dtype)
    return vector(like, vector.dtype), lambda context, builder, sig, args: _splat(builder, args[1], vector.count)


@intrinsic
def total(typing_context, vector):
    """The sum of all lanes, in a tree: halves are added to halves."""

    def lower(context, builder, sig, args):
        value, count = args[0], vector.count
        while count > 1:
            count //= 2
            mask = ir.VectorType(ir.IntType(32), count)
            low = builder.shuffle_vector(value, value, ir.Constant(mask, list(range(count))))
            high = builder.shuffle_vector(value, value, ir.Constant(mask, list(range(count, 2 * count))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), lower


def place(context, builder, array_type, array, index):
    """A pointer to the vector at a flat index of an array, and its alignment in bytes, that of a number."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = context.get_value_type(Vector(array_type.dtype))
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer()), array_type.dtype.bitwidth // 8


def _masked(context, builder, vector, name, count, pointer, align, *value):
    """LLVM's masked "load", or "store" of a value: lanes from `count` on touch no memory and are zero."""
    llvm_type = context.get_value_type(vector)
    numbers = ir.Constant(ir.VectorType(count.type, vector.count), list(range(vector.count)))
    mask = builder.icmp_signed("<", numbers, _splat(builder, count, vector.count))
    arguments = [*value, pointer, ir.Constant(ir.IntType(32), align), mask]
    arguments += [] if value else [ir.Constant(llvm_type, None)]
    function_type = ir.FunctionType(ir.VoidType() if value else llvm_type, [argument.type for argument in arguments])
    full_name = f"llvm.masked.{name}.v{vector.count}f{vector.dtype.bitwidth}.p0"
    return builder.call(get_or_insert_function(builder.module, function_type, full_name), arguments)


def _all_or_some(builder, vector, count):
    """Two branches: for a whole vector, and for less.  Without AVX-512 a mask takes a dozen instructions to make, and
    AMD's processors take as many cycles to store by one: GroupNorm and SiLU of 14x14x64 took 2.4 times as long."""
    return builder.if_else(builder.icmp_signed(">=", count, count.type(vector.count)), likely=True)


@intrinsic(prefer_literal=True)
def prefetch(typing_context, array, index, write):
    """Begin to bring the cache line at a flat index near: to `write` it (1) or to read it (0), constants both.

    Other work hides the wait.  A processor foresees by itself only what a loop that goes straight on will read; not
    tiles, nor stores that are far apart.  The index may lie outside the array: that is in vain, but no fault.
    """

    def lower(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        pointer, number = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer()), ir.IntType(32)
        constants = [ir.Constant(number, value) for value in (write.literal_value, 3, 1)]  # into all caches; of data
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, *[number] * 3])
        builder.call(get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0"), [pointer, *constants])
        return context.get_dummy_value()

    return types.void(array, types.intp, write), lower


@intrinsic
def load_some(typing_context, array, index, count):
    """The first `count` numbers of a vector, which may be more than it has; the other lanes are zero."""
    vector = Vector(array.dtype)

    def lower(context, builder, sig, args):
        *where, count = args
        pointer, align = place(context, builder, array, *where)
        with _all_or_some(builder, vector, count) as (whole, part):
            with whole:
                found, end_of_whole = builder.load(pointer, align=align), builder.block
            with part:
                some, end_of_part = _masked(context, builder, vector, "load", count, pointer, align), builder.block
        result = builder.phi(found.type)
        result.add_incoming(found, end_of_whole)
        result.add_incoming(some, end_of_part)
        return result

    return vector(array, types.intp, types.intp), lower


@intrinsic
def store_some(typing_context, array, index, vector, count):
    """Write the first `count` lanes, or all if there are fewer."""

    def lower(context, builder, sig, args):
        data, index, value, count = args
        pointer, align = place(context, builder, array, data, index)
        with _all_or_some(builder, vector, count) as (whole, part):
            with whole:
                builder.store(value, pointer, align=align)
            with part:
                _masked(context, builder, vector, "store", count, pointer, align, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), lower

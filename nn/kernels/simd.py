"""Vectors for Numba: sixteen float32 (or eight float64) numbers that one instruction adds or multiplies at once.

LLVM turns a simple loop into vector instructions by itself.  It gives up on loops that touch many rows of an array (a
Winograd tile has 36), because it cannot prove that no two overlap.  So a `@kernel` may use vectors explicitly:

    v = load_some(x, i, count)       the numbers from x.ravel()[i] on; lanes beyond `count` are 0
    w = 2.0 * v - v / u              arithmetic on all lanes, between vectors, or a vector and a number
    store_some(out, i, w, count)     writes no more than `count` of them

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


def masked(context, builder, name, array_type, array, index, count=None, value=None):
    """LLVM's masked "load", or "store" of a value: lanes from `count` on, if given, touch no memory and are zero."""
    vector = Vector(array_type.dtype)
    llvm_type = context.get_value_type(vector)
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.bitcast(builder.gep(data, [index]), llvm_type.as_pointer())
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    count = index.type(vector.count) if count is None else count
    numbers = ir.Constant(ir.VectorType(count.type, vector.count), list(range(vector.count)))
    mask = builder.icmp_signed("<", numbers, _splat(builder, count, vector.count))
    if name == "load":
        result, arguments = llvm_type, [pointer, align, mask, ir.Constant(llvm_type, None)]
    else:
        result, arguments = ir.VoidType(), [value, pointer, align, mask]
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    full_name = f"llvm.masked.{name}.v{vector.count}f{vector.dtype.bitwidth}.p0"
    return builder.call(get_or_insert_function(builder.module, function_type, full_name), arguments)


@intrinsic
def load_some(typing_context, array, index, count):
    """The first `count` numbers of a vector, which may be more than it has; the other lanes are zero."""
    loads = Vector(array.dtype)(array, types.intp, types.intp)
    return loads, lambda context, builder, sig, args: masked(context, builder, "load", array, *args)


@intrinsic
def store_some(typing_context, array, index, vector, count):
    """Write the first `count` lanes, or all if there are fewer."""

    def lower(context, builder, sig, args):
        data, index, value, count = args
        masked(context, builder, "store", array, data, index, count, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), lower

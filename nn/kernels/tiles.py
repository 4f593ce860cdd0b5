"""Small square tiles of vectors, held in registers: load, transform on both sides, store.

A tile of n x n pixels is a tuple of n*n vectors (simd.py), each a run of channels of one pixel.  A matrix M turns it
into M tile M^T.  The matrices are constants, in sparse factors (winograd_matrices.py), so each transform is compiled to
straight-line code that multiplies by no zero and no one.
"""
from numba.core import types
from numba.core.cgutils import pack_array, unpack_tuple
from numba.extending import intrinsic

from nn.kernels.simd import Vector, constant_vector, place
from nn.kernels.winograd_matrices import FACTORS, MATRICES


@intrinsic(prefer_literal=True)
def load_tile(typing_context, array, start, row_stride, column_stride, size):
    """size x size vectors (size a constant): the one at flat index start + i*row_stride + j*column_stride is (i, j)."""
    n = size.literal_value
    vector = Vector(array.dtype)

    def lower(context, builder, sig, args):
        data, start, row_stride, column_stride, _ = args
        tile = []
        for i in range(n):
            row = builder.add(start, builder.mul(row_stride, row_stride.type(i)))
            for j in range(n):
                index = builder.add(row, builder.mul(column_stride, column_stride.type(j)))
                pointer, align = place(context, builder, array, data, index)
                tile.append(builder.load(pointer, align=align))
        return pack_array(builder, tile)

    return types.UniTuple(vector, n * n)(array, types.intp, types.intp, types.intp, size), lower


@intrinsic
def store_tile(typing_context, array, start, row_stride, column_stride, rows, columns, tile, onto):
    """Write a tile as load_tile reads it, but only its first `rows` rows and `columns` columns.

    onto: None, or an array like `array`, to whose numbers at the same places the tile's are added
    """
    n = round(tile.count**0.5)

    def lower(context, builder, sig, args):
        data, start, row_stride, column_stride, rows, columns, packed, base = args
        vectors = unpack_tuple(builder, packed)
        for i in range(n):
            with builder.if_then(builder.icmp_signed(">", rows, rows.type(i)), likely=True):
                row = builder.add(start, builder.mul(row_stride, row_stride.type(i)))
                for j in range(n):
                    with builder.if_then(builder.icmp_signed(">", columns, columns.type(j)), likely=True):
                        index = builder.add(row, builder.mul(column_stride, column_stride.type(j)))
                        pointer, align = place(context, builder, array, data, index)
                        value = vectors[i * n + j]
                        if onto != types.none:
                            below, _ = place(context, builder, onto, base, index)
                            value = builder.fadd(value, builder.load(below, align=align))
                        builder.store(value, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, *(types.intp,) * 5, tile, onto), lower


@intrinsic(prefer_literal=True)
def transform(typing_context, name, tile):
    """M tile M^T, where M is the matrix called `name` (a constant string) in MATRICES."""
    factors, (rows, columns) = FACTORS[name.literal_value], MATRICES[name.literal_value].shape

    def lower(context, builder, sig, args):
        vectors = unpack_tuple(builder, args[1])
        half = [_apply(context, builder, tile.dtype, factors, vectors[j::columns]) for j in range(columns)]  # M tile
        result = []
        for i in range(rows):
            result += _apply(context, builder, tile.dtype, factors, [column[i] for column in half])
        return pack_array(builder, result)

    return types.UniTuple(tile.dtype, rows * rows)(name, tile), lower


@intrinsic
def add_to_all(typing_context, tile, vector):
    """tile + vector, in every place."""

    def lower(context, builder, sig, args):
        return pack_array(builder, [builder.fadd(v, args[1]) for v in unpack_tuple(builder, args[0])])

    return tile(tile, vector), lower


def _apply(context, builder, vector, factors, inputs):
    """The product of constant matrices, the last one first, and a column of vectors, as straight-line code."""
    for factor in factors:
        inputs = [_combine(context, builder, vector, row, inputs) for row in factor]
    return inputs


def _combine(context, builder, vector, coefficients, inputs):
    """sum of c * v, starting with a coefficient of one where there is one."""
    terms = [(c, v) for c, v in zip(coefficients, inputs, strict=True) if c != 0]
    terms.sort(key=lambda term: abs(term[0] - 1))
    result = None
    for c, v in terms:
        if result is None:
            result = v if c == 1 else builder.fmul(v, constant_vector(context, vector, c))
        elif c == 1:
            result = builder.fadd(result, v)
        elif c == -1:
            result = builder.fsub(result, v)
        else:
            product = builder.fmul(v, constant_vector(context, vector, c), flags=("contract",))
            result = builder.fadd(result, product, flags=("contract",))
    return result

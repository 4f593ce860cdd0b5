"""Small square tiles of vectors, held in registers: load, transform on both sides, store.

A tile of n x n pixels is a tuple of n*n vectors (simd.py), each a run of channels of one pixel.  A matrix M turns it
into M tile M^T.  The matrices are constants, so each transform is compiled to straight-line code that multiplies by no
zero and no one.  Where two rows differ only in the signs of some entries, as e + o and e - o (the points +a and -a of
Winograd's matrices), e and o are computed once: B^T takes 13 operations, not 22.
"""
import numpy as np
from numba.core import types
from numba.core.cgutils import pack_array, unpack_tuple
from numba.extending import intrinsic

from nn.kernels.simd import Vector, constant_vector, masked
from nn.kernels.winograd_matrices import MATRICES


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
                tile.append(masked(context, builder, "load", array, data, index))
        return pack_array(builder, tile)

    return types.UniTuple(vector, n * n)(array, types.intp, types.intp, types.intp, size), lower


@intrinsic
def store_tile(typing_context, array, start, row_stride, column_stride, rows, columns, tile):
    """Write a tile as load_tile reads it, but only its first `rows` rows and `columns` columns."""
    n = round(tile.count**0.5)

    def lower(context, builder, sig, args):
        data, start, row_stride, column_stride, rows, columns, packed = args
        vectors = unpack_tuple(builder, packed)
        for i in range(n):
            with builder.if_then(builder.icmp_signed(">", rows, rows.type(i)), likely=True):
                row = builder.add(start, builder.mul(row_stride, row_stride.type(i)))
                for j in range(n):
                    with builder.if_then(builder.icmp_signed(">", columns, columns.type(j)), likely=True):
                        index = builder.add(row, builder.mul(column_stride, column_stride.type(j)))
                        masked(context, builder, "store", array, data, index, value=vectors[i * n + j])
        return context.get_dummy_value()

    return types.void(array, *(types.intp,) * 5, tile), lower


@intrinsic(prefer_literal=True)
def transform(typing_context, name, tile):
    """M tile M^T, where M is the matrix called `name` (a constant string) in MATRICES."""
    matrix = MATRICES[name.literal_value]
    rows, columns = matrix.shape

    def lower(context, builder, sig, args):
        vectors = unpack_tuple(builder, args[1])
        half = [_apply(context, builder, tile.dtype, matrix, vectors[j::columns]) for j in range(columns)]  # M tile
        result = []
        for i in range(rows):
            result += _apply(context, builder, tile.dtype, matrix, [column[i] for column in half])
        return pack_array(builder, result)

    return types.UniTuple(tile.dtype, rows * rows)(name, tile), lower


@intrinsic
def add_to_all(typing_context, tile, vector):
    """tile + vector, in every place."""

    def lower(context, builder, sig, args):
        return pack_array(builder, [builder.fadd(v, args[1]) for v in unpack_tuple(builder, args[0])])

    return tile(tile, vector), lower


def _apply(context, builder, vector, matrix, inputs):
    """The products of a constant matrix and a column of vectors, as straight-line code."""
    matrix, inputs = _merge_columns(builder, matrix, inputs)
    outputs = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if outputs[i] is not None:
            continue
        twin = _find_twin(matrix, i, taken=[output is not None for output in outputs])
        if twin is None:
            outputs[i] = _combine(context, builder, vector, row, inputs)
        else:
            even = _combine(context, builder, vector, (row + matrix[twin]) / 2, inputs)
            odd = _combine(context, builder, vector, (row - matrix[twin]) / 2, inputs)
            outputs[i] = builder.fadd(even, odd)
            outputs[twin] = builder.fsub(even, odd)
    return outputs


def _merge_columns(builder, matrix, inputs):
    """Where two columns differ in signs only, let their inputs' sum and difference be the inputs instead."""
    matrix, inputs = matrix.copy(), list(inputs)
    taken = [False] * len(inputs)
    for p in range(len(inputs)):
        q = None if taken[p] else _find_twin(matrix.T, p, taken)
        if q is not None:
            taken[p] = taken[q] = True
            even, odd = (matrix[:, p] + matrix[:, q]) / 2, (matrix[:, p] - matrix[:, q]) / 2
            matrix[:, p], matrix[:, q] = even, odd
            a, b = inputs[p], inputs[q]
            inputs[p], inputs[q] = builder.fadd(a, b), builder.fsub(a, b)
    return matrix, inputs


def _find_twin(rows, i, taken):
    """The index of a later row that equals row i up to the signs of some, not all, entries."""
    for j in range(i + 1, len(rows)):
        same_size = np.allclose(np.abs(rows[i]), np.abs(rows[j]))
        if not taken[j] and same_size and np.any(rows[i] + rows[j]) and np.any(rows[i] - rows[j]):
            return j
    return None


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

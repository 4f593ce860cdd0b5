"""What an op computes in: float32 or float64, the same for all of its inputs.

A number, an array without axes or a list takes the dtype of the tensors and arrays beside it, and integers become
floats beside floats.  So one `np.int64(2)` or `np.float64(0.5)` does not turn a float32 network into float64.
"""

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
FIRM, LOOSE, PLAIN, NOTHING = 3, 2, 1, 0  # tensors and arrays with axes; NumPy's numbers; Python's, and lists; None


def reconcile(op: str, arrays: list[np.ndarray | None], ranks: list[int], integers: bool) -> list:
    """The arrays in the dtype of those of the highest rank.

    ranks: FIRM to NOTHING, for each array; integers: whether integers may stay integers where no float is among them
    Raises TypeError where floats of two precisions meet, or floats of a precision that ops do not compute in.
    """
    leading = [array for array, rank in zip(arrays, ranks, strict=True) if rank == max(ranks)]
    floats = {array.dtype.newbyteorder("=") for array in leading if array.dtype.kind == "f"}
    if strange := sorted(str(dtype) for dtype in floats if dtype not in FLOATS):
        raise TypeError(f"{op}: ops compute in float32 or float64; given {strange[0]}. Use .astype(np.float32) first")
    if len(floats) > 1:
        raise TypeError(f"{op}: inputs of dtype {' and '.join(sorted(map(str, floats)))}; convert one with .astype()")
    if integers and not floats:  # NumPy decides, to which a loose number is best given as Python's
        pairs = zip(arrays, ranks, strict=True)
        return [a.item() if 0 < rank < max(ranks) and a.ndim == 0 else a for a, rank in pairs]
    dtype = floats.pop() if floats else np.result_type(np.float32, *leading)
    return [None if array is None else array.astype(dtype, copy=False) for array in arrays]

"""One row added to all rows of a matrix, and the sum of all rows: what a bias does, and its gradient.

Both are one pass over the matrix.  But where rows are short NumPy spends its time on beginning each of them: to sum
6,272 rows of 4 numbers took 75 us, and 3 us as a product with ones.
"""
import math

import numpy as np

SHORT = 64  # numbers in a row, at most, that several are taken together; and how many rows are, at most


def add_row(matrix: np.ndarray, row: np.ndarray) -> None:
    """matrix (R, C) += row (C,); contiguous, else its numbers are not reached."""
    count, columns = matrix.shape
    together = math.gcd(count, SHORT) if columns <= SHORT else 1
    rows = matrix.reshape(count // together, together * columns)
    rows += np.tile(row, together)


def sum_rows(matrix: np.ndarray) -> np.ndarray:
    """(R, C) -> (C,)"""
    return np.ones(len(matrix), matrix.dtype) @ matrix

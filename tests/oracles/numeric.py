"""Differentiation by differences, and the comparison of arrays."""
import numpy as np


def vjp(f, arrays, cotangents, linear=False):
    """J^T u by numerical differentiation, for each float array among `arrays` (None for the others).

    f(*arrays) is a tuple of float64 arrays and `cotangents` has one array for each of them.  Fourth-order differences:
    error near 1e-11 for functions of ordinary curvature.  linear: f is so in each array by itself, as a convolution is;
    then one difference is exact, and four times as fast.
    """

    def value(changed):
        return sum(np.vdot(u, y) for u, y in zip(cotangents, f(*changed), strict=True))

    gradients, here = [], value(arrays) if linear else 0.0
    for i, array in enumerate(arrays):
        if not (isinstance(array, np.ndarray) and array.dtype == np.float64):
            gradients.append(None)
            continue
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):

            def along(step, i=i, index=index):
                changed = list(arrays)
                changed[i] = arrays[i].copy()
                changed[i][index] += step
                return value(changed)

            if linear:
                gradient[index] = along(1.0) - here
                continue
            h = 1e-3
            near = (along(h) - along(-h)) / (2 * h)
            far = (along(2 * h) - along(-2 * h)) / (4 * h)
            gradient[index] = (4 * near - far) / 3
        gradients.append(gradient)
    return gradients


def relative_error(actual, expected, floor=0.0):
    """The largest |difference| over the largest |expected|, or over `floor` if that is larger; NaN agrees with NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"the shape is {actual.shape}, expected {expected.shape}"
    difference = _difference(actual, expected).max(initial=0)
    return float(difference / _scale(expected, floor)) if difference else 0.0


def assert_close(actual, expected, tolerance, what="the result", floor=0.0):
    """Fail with the first wrong index and both values if the relative error exceeds `tolerance`."""
    error = relative_error(actual, expected, floor)
    if error <= tolerance:
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    wrong = ~(_difference(actual, expected) <= tolerance * _scale(expected, floor))
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise AssertionError(
        f"{what} is wrong at {wrong.sum()} of {wrong.size} places, first at {index}: {actual[index]:.9g}, expected "
        f"{expected[index]:.9g}; relative error {error:.2g}, allowed {tolerance:.2g}"
    )


def _difference(actual, expected):
    """|actual - expected|, 0 where both are the same infinity or both NaN."""
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(np.asarray(actual, np.float64) - expected))


def _scale(expected, floor):
    return max(np.abs(expected[np.isfinite(expected)]).max(initial=0), floor, np.finfo(np.float64).tiny)

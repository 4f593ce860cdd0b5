"""Differentiation by differences, and the comparison of arrays."""
import numpy as np


def vjp(f, arrays, cotangents):
    """J^T u by numerical differentiation, for each float array among `arrays` (None for the others).

    f(*arrays) is a tuple of float64 arrays and `cotangents` has one array for each of them.  Fourth-order differences:
    error near 1e-11 for functions of ordinary curvature.
    """

    def value(changed):
        return sum(np.vdot(u, y) for u, y in zip(cotangents, f(*changed), strict=True))

    gradients = []
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

            h = 1e-3
            near = (along(h) - along(-h)) / (2 * h)
            far = (along(2 * h) - along(-2 * h)) / (4 * h)
            gradient[index] = (4 * near - far) / 3
        gradients.append(gradient)
    return gradients


def relative_error(actual, expected):
    """The largest |difference| over the largest |expected|; NaN where one has a NaN and the other has not."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"the shape is {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return 0.0
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))  # also equal infinities
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0, np.abs(actual.astype(np.float64) - expected))
    finite = np.abs(expected[np.isfinite(expected)])
    return float(difference.max() / max(finite.max(initial=0), np.finfo(np.float64).tiny) if difference.any() else 0.0)


def assert_close(actual, expected, tolerance, what="the result"):
    """Fail with the first wrong index and both values if the relative error exceeds `tolerance`."""
    error = relative_error(actual, expected)
    if error <= tolerance:
        return
    expected = np.asarray(expected)
    actual = np.asarray(actual)
    finite = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    agree = np.isclose(actual, expected, rtol=0, atol=tolerance * finite, equal_nan=True)
    index = tuple(int(i) for i in np.argwhere(~agree)[0])
    raise AssertionError(
        f"{what} is wrong at {np.sum(~agree)} of {agree.size} places, first at {index}: {actual[index]:.9g}, expected "
        f"{expected[index]:.9g}; relative error {error:.2g}, allowed {tolerance:.2g}"
    )

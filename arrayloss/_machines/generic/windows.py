"""Windows of neighbouring cells: what their best linear prediction leaves, and means under a triangle."""

from __future__ import annotations

import math

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.facts import scalar_like, where_or
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.namespace import device_of

#: The weights by which DualTaskLoss smooths: two running means of five, one after the other.
TRIANGLE = tuple(n / 25.0 for n in (1, 2, 3, 4, 5, 4, 3, 2, 1))
#: What RMILoss adds to the diagonals of its sums of squares.
RIDGE = 5e-4


def triangle(xp: Namespace, x: Array, axis: int) -> Array:
    """Return the means of neighbours along an axis, weighted by TRIANGLE, where all of them are there."""
    length = x.shape[axis] - len(TRIANGLE) + 1
    total = None
    for i, weight in enumerate(TRIANGLE):
        part = x[tuple(slice(i, i + length) if j == axis else slice(None) for j in range(x.ndim))] * weight
        total = part if total is None else total + part
    return total


@rule
def unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Rule:
    """Return the log determinant of the covariance that the best linear prediction leaves, shape `(N, C)`.

    It is that of the vectors of the `radius` x `radius` cells of each window of `true` (N, C, H, W), predicted from
    those of `predicted`. A window counts where all its cells are `valid` (N, 1, H, W); where none does the value is 0.
    Prediction and determinant are those of ridge regression: RIDGE over the number of windows is added to both
    diagonals.
    """
    value, towards = _window_rule(xp, *_all_windows(xp, predicted, true, valid, radius))
    return value, lambda g: _folded(xp, towards(g), predicted, radius)


def _window_rule(xp: Namespace, predicted: Array, true: Array, weights: Array | None) -> Rule:
    """Return `unexplained` of windows `(N, C, size, count)` as a rule.

    `weights` (N, 1, 1, count) is 1 for the windows that count and 0 for the others.
    """
    basis, slopes, left, squares = _regression(xp, predicted, true, weights)
    one = xp.broadcast_to(xp.eye(true.shape[2], dtype=true.dtype, device=device_of(true)), squares.shape)
    pivots, inverse = _eliminated(xp, xp.concat([squares, one], axis=3))

    def vjp(g: Array) -> Array:
        # The slopes are the best ones: where they change a little, the determinant does not. Where no window counts
        # there is nothing left, and no gradient.
        change = xp.matmul(xp.matrix_transpose(basis), xp.matmul(xp.matrix_transpose(slopes), inverse))
        return xp.matmul(change * (2.0 * xp.reshape(g, (*g.shape, 1, 1))), left)

    return _log_determinant(xp, pivots, true, weights), vjp


def _log_determinant(xp: Namespace, pivots: Array, true: Array, weights: Array | None) -> Array:
    """Return the log determinant of a covariance from the pivots of its sums of squares."""
    size, count = true.shape[2:]
    logs = xp.sum(xp.log(pivots), axis=(2, 3))
    if weights is None:
        return logs - size * math.log(count)
    total = xp.sum(weights, axis=(2, 3))
    some = total > 0.0
    return where_or(xp, some, logs - xp.log(where_or(xp, some, total, 1.0)) * float(size), 0.0)


def _all_windows(
    xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int
) -> tuple[Array, Array, Array | None]:
    weights = None
    if valid is not None:
        weights = xp.min(_windows(xp, xp.astype(valid, true.dtype), radius), axis=2, keepdims=True)
    return _windows(xp, predicted, radius), _windows(xp, true, radius), weights


def _windows(xp: Namespace, x: Array, radius: int) -> Array:
    """Return the cells of each window of `(N, C, H, W)`, shape `(N, C, radius^2, windows)`."""
    rows, columns = x.shape[2] - radius + 1, x.shape[3] - radius + 1
    cells = [x[:, :, i : i + rows, j : j + columns] for i in range(radius) for j in range(radius)]
    return xp.reshape(xp.stack(cells, axis=2), (*x.shape[:2], radius**2, rows * columns))


def _folded(xp: Namespace, windows: Array, like: Array, radius: int) -> Array:
    """Return the sums of what each cell has in all its windows: the transpose of `_windows`."""
    rows, columns = like.shape[2] - radius + 1, like.shape[3] - radius + 1
    windows = xp.reshape(windows, (*like.shape[:2], radius**2, rows, columns))
    total = xp.zeros_like(like)
    for k in range(radius**2):
        i, j = divmod(k, radius)
        total[:, :, i : i + rows, j : j + columns] += windows[:, :, k, :, :]
    return total


def _regression(
    xp: Namespace, predicted: Array, true: Array, weights: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Return the basis, the slopes in it, what they leave of the true vectors, and the sums of squares of that."""
    size = true.shape[2]
    basis = xp.broadcast_to(scalar_like(xp, true, _cosines(math.isqrt(size))), (*true.shape[:2], size, size))
    p, y = (_centred(xp, xp.matmul(basis, x), weights) for x in (predicted, true))
    ridge = xp.reshape(xp.eye(size, dtype=true.dtype, device=device_of(true)), (1, 1, size, size)) * RIDGE
    squares, products = (xp.matmul(p, xp.matrix_transpose(x)) for x in (p, y))
    slopes = xp.matrix_transpose(_eliminated(xp, xp.concat([squares + ridge, products], axis=3))[1])
    left = xp.matmul(slopes, p) - y
    # Equal to the sums of squares of y less what is explained, without the difference of the two.
    squares = xp.matmul(left, xp.matrix_transpose(left)) + xp.matmul(slopes, xp.matrix_transpose(slopes)) * RIDGE
    return basis, slopes, left, squares + ridge


def _cosines(side: int) -> tuple[tuple[float, ...], ...]:
    """Return the orthonormal basis of two-dimensional cosines of a square window, a row each.

    Neighbours are all but equal. In this basis their small differences stand by themselves, where rounding is as small
    as they are, and no determinant changes.
    """
    waves = [
        [math.sqrt((1 + (f > 0)) / side) * math.cos(math.pi * f * (2 * i + 1) / (2 * side)) for i in range(side)]
        for f in range(side)
    ]
    return tuple(tuple(a * b for a in down for b in across) for down in waves for across in waves)


def _centred(xp: Namespace, x: Array, weights: Array | None) -> Array:
    """Return vectors less their mean, 0 for those that do not count."""
    if weights is None:
        return x - xp.mean(x, axis=3, keepdims=True)
    count = xp.sum(weights, axis=3, keepdims=True)
    return (x - xp.sum(x * weights, axis=3, keepdims=True) / xp.maximum(count, xp.ones_like(count))) * weights


def _eliminated(xp: Namespace, rows: Array) -> tuple[Array, Array]:
    """Return the pivots of Gauss-Jordan elimination of as many columns as there are rows, and the columns behind them.

    The first columns are a positive definite matrix with the ridge, whose pivots are never less than that: what is less
    is rounding.
    """
    size = rows.shape[2]
    index = xp.reshape(xp.arange(size, device=device_of(rows)), (1, 1, size, 1))
    pivots = []
    for i in range(size):
        pivot = rows[:, :, i : i + 1, :1]
        pivot = xp.maximum(pivot, xp.full_like(pivot, RIDGE))
        row = rows[:, :, i : i + 1, 1:] / pivot
        rows = xp.where(index == i, row, rows[:, :, :, 1:] - rows[:, :, :, :1] * row)
        pivots.append(pivot)
    return xp.concat(pivots, axis=3), rows

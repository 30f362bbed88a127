"""Sums and selections by place: bins, rows, positions of the batch, counts of labels."""

from __future__ import annotations

import math
from typing import Any

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.facts import one_hot, sum_positions, where_or
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.namespace import device_of

#: Entries and, at most, half the bins that `bin_totals` holds against each other at once.
_BIN_BLOCK = 1 << 13


@rule
def take_positions(xp: Namespace, x: Array, places: Array) -> Rule:
    """Return the vectors over the classes at K places, shape `(K, C)`.

    A place is an index of the flat positions `(N * S)`, of which none comes twice; N * S itself stands for none, and
    gives 0. There is at least one position.
    """
    images, classes, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    there = xp.expand_dims(places < images * positions, axis=1)
    at = xp.where(places < images * positions, places, xp.zeros_like(places))
    plane = xp.arange(classes, dtype=places.dtype, device=device_of(places)) * positions
    index = xp.expand_dims(at // positions * (classes * positions) + at % positions, axis=1) + plane
    rows = xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(index, (-1,)), axis=0), index.shape)

    def vjp(g: Array) -> Array:
        slots, filled = _slots(xp, places, images * positions)
        back = where_or(xp, xp.expand_dims(filled, axis=1), xp.take(g, slots, axis=0), 0.0)
        return xp.reshape(xp.permute_dims(xp.reshape(back, (images, positions, classes)), (0, 2, 1)), x.shape)

    return where_or(xp, there, rows, 0.0), vjp


@rule
def put_positions(xp: Namespace, values: Array, places: Array, shape: tuple[int, ...]) -> Rule:
    """Return an array of a shape that holds K values at their places (see `take_positions`), and 0 elsewhere."""
    positions = math.prod(shape)
    slots, filled = _slots(xp, places, positions)
    there = places < positions
    at = xp.where(there, places, xp.zeros_like(places))

    def vjp(g: Array) -> Array:
        return where_or(xp, there, xp.take(xp.reshape(g, (-1,)), at, axis=0), 0.0)

    return xp.reshape(where_or(xp, filled, xp.take(values, slots, axis=0), 0.0), shape), vjp


def _slots(xp: Namespace, places: Array, positions: int) -> tuple[Array, Array]:
    """Return for each position which of the places it is, and whether it is one: what a scatter would know."""
    order = xp.argsort(places)
    ranked = xp.take(places, order, axis=0)
    position = xp.arange(positions, dtype=places.dtype, device=device_of(places))
    found = xp.searchsorted(ranked, position)
    found = xp.minimum(found, xp.full_like(found, places.shape[0] - 1))
    return xp.take(order, found, axis=0), xp.take(ranked, found, axis=0) == position


@rule
def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Rule:
    # A bin is a row and a column, each in its one-hot form: together they are as long as twice the root of the bins.
    """Return the sums `(N, size)` of the entries of `x` (N, E) that have each number, from 0 on, in `bins` (N, E)."""
    columns = math.isqrt(max(size - 1, 0)) + 1
    rows = -(-size // columns)
    row, column = (xp.expand_dims(i, axis=2) for i in (bins // columns, bins % columns))
    row_index, column_index = (xp.arange(n, dtype=bins.dtype, device=device_of(bins)) for n in (rows, columns))
    totals = xp.zeros((x.shape[0], rows, columns), dtype=x.dtype, device=device_of(x))
    for start in range(0, x.shape[1], _BIN_BLOCK):
        at = slice(start, min(start + _BIN_BLOCK, x.shape[1]))
        spread = where_or(xp, row[:, at, :] == row_index, xp.expand_dims(x, axis=2)[:, at, :], 0.0)
        hit = xp.astype(column[:, at, :] == column_index, x.dtype)
        totals = totals + xp.matmul(xp.matrix_transpose(spread), hit)
    flat = xp.reshape(totals, (x.shape[0], rows * columns))[:, :size]
    return flat, lambda g: xp.take_along_axis(g, bins, axis=1)


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    """Return how many valid positions of each image have each label, shape `(N, C)`."""
    hit = one_hot(xp, labels, classes)
    return sum_positions(xp, xp.astype(hit if valid is None else hit & xp.expand_dims(valid, axis=1), dtype))


def take_rows(xp: Namespace, rows: Array, index: Array) -> Array:
    """Return the entries of rows `(N, M)` at the indices `(N, P)` of each."""
    return xp.take_along_axis(rows, index, axis=1)

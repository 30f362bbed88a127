"""What ranks: a partition for the k-th largest."""

from __future__ import annotations

import cupy

from arrayloss._machines.formula import Array, Namespace


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    at = rows.shape[1] - k
    return cupy.partition(rows, at, axis=1)[:, at]


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    return kth_largest(xp, row, k)

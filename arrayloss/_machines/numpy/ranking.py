"""What ranks: a partition for the k-th largest, and one sort for the Lovasz extensions."""

from __future__ import annotations

import numpy as np

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy.lovasz import hinge_extension, softmax_extension


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    at = rows.shape[1] - k
    return np.partition(rows, at, axis=1)[:, at]


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    # Counting costs a tenth of a partition, and is all that is needed where enough is above the bound.
    if np.count_nonzero(row > bound) >= k:
        return np.full(1, np.inf, dtype=row.dtype)
    return kth_largest(xp, row, k)


@rule
def lovasz_softmax(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Rule:
    losses, slopes = softmax_extension(p, labels, valid, per_image)
    return losses, lambda g: _scaled(slopes, g)


@rule
def lovasz_hinge(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Rule:
    losses, slopes = hinge_extension(z, labels, valid, per_image)
    return losses, lambda g: _scaled(slopes, g)


def _scaled(slopes: Array, g: Array) -> Array:
    """Return slopes times the gradient of each set and class, in place: a rule is used once."""
    slopes *= g.reshape(g.shape + (1,) * (slopes.ndim - 2))
    return slopes

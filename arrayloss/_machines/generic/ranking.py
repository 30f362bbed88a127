"""What ranks: the k-th largest, and the Lovasz extension of the Jaccard loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.facts import one_hot, running_sum, where_or, where_valid
from arrayloss._machines.generic.rule import Rule, rule

#: The `lovasz_weights` of a library.
Weights = Callable[..., Array]


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    """Return the k-th largest value of each row (1 <= k <= length), a NaN being larger than any number."""
    return xp.sort(rows, axis=-1, descending=True)[:, k - 1]


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    """Return the k-th largest value of a row `(1, P)`, or any value above where k values exceed the bound."""
    return kth_largest(xp, row, k)


@rule
def lovasz_softmax(
    xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Rule:
    """Return the Lovasz extension of the Jaccard loss at the errors |[y = c] - p_c|, shape `(sets, C)`.

    A set is an image with `per_image`, else the batch. p is 0 where not valid; a label of C belongs to no class.
    `weights` is the `lovasz_weights` of the library.
    """
    positive = _valid_one_hot(xp, labels, valid, p.shape[1])
    errors = xp.where(positive, 1.0 - p, p)
    return _extension(xp, errors, positive, None, valid, per_image, weights or lovasz_weights)


@rule
def lovasz_hinge(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Rule:
    """Return the Lovasz extension of the Jaccard loss at the errors max(0, 1 - z (2 y - 1)), shape `(sets, 1)`."""
    positive = _valid_one_hot(xp, labels - 1, valid, z.shape[1])
    errors = 1.0 - where_valid(xp, valid, z) * (xp.astype(positive, z.dtype) * 2.0 - 1.0)
    errors = where_valid(xp, valid, where_or(xp, ~(errors <= 0.0), errors, 0.0))
    return _extension(xp, errors, positive, errors > 0.0, valid, per_image, weights or lovasz_weights)


def _valid_one_hot(xp: Namespace, labels: Array, valid: Array | None, classes: int) -> Array:
    hit = one_hot(xp, labels, classes)
    return hit if valid is None else hit & xp.expand_dims(valid, axis=1)


def _extension(
    xp: Namespace, errors: Array, positive: Array, moved: Any, valid: Array | None, per_image: bool, weights: Weights
) -> Rule:
    """Return the Lovasz extension of each set and class at errors `(N, C, *S)`, which those `moved` change (None: all).

    An error falls as its score grows where `positive`, and grows elsewhere.
    """
    images, classes = errors.shape[:2]
    sets, pixels = (images if per_image else 1), math.prod(errors.shape[2:]) * (1 if per_image else images)
    swapped = (0, 1) if per_image else (1, 0)
    order = (*swapped, *range(2, errors.ndim))

    def rows(x: Array) -> Array:
        return xp.reshape(xp.permute_dims(x, order), (sets * classes, pixels))

    e = rows(errors)
    if pixels == 0:
        return xp.reshape(xp.sum(e, axis=1), (sets, classes)), lambda g: xp.zeros_like(errors)
    if valid is not None:
        valid = rows(xp.broadcast_to(xp.expand_dims(valid, axis=1), errors.shape))
    w = weights(xp, e, rows(positive), valid)
    losses = xp.reshape(xp.sum(e * w, axis=1), (sets, classes))
    w = xp.permute_dims(xp.reshape(w, tuple(errors.shape[i] for i in order)), order)
    slopes = where_or(xp, moved, xp.where(positive, -w, w), 0.0)
    return losses, lambda g: slopes * xp.reshape(g, g.shape + (1,) * (errors.ndim - 2))


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    """Return the gradient of the Lovasz extension of the Jaccard loss with respect to the errors, row by row.

    `errors` (R, P) are at least 0, `positive` marks the set whose Jaccard loss it is. Entries that are not valid weigh
    nothing.

    Among tied errors the weights depend on which are ranked first. Taken here is the mean of two orders, positives
    first and negatives first, which treats equal entries alike and is close to what the order of exact numbers gives.
    With g positives in all, and k1 positives and b1 negatives ranked before a group of tied errors, k2 and b2 up to its
    end, a positive weighs (1 / (g + b1) + 1 / (g + b2)) / 2 and a negative (2 g - k1 - k2) / ((g + b1) (g + b2)) / 2:
    counts are integers, and nothing cancels. Without positives the largest error weighs 1.
    """
    keys = errors if valid is None else where_or(xp, valid, errors, -1.0)
    order = xp.argsort(keys, axis=-1, descending=True)
    ranked = xp.take_along_axis(keys, order, axis=-1)
    hit = xp.astype(xp.take_along_axis(positive, order, axis=-1), xp.int32)
    back = xp.argsort(order, axis=-1)
    return xp.take_along_axis(ranked_lovasz_weights(xp, ranked, hit, running_sum, _running_max), back, axis=-1)


def ranked_lovasz_weights(
    xp: Namespace, ranked: Array, hit: Array, running_sum: Callable[..., Array], running_max: Callable[..., Array]
) -> Array:
    """Return `lovasz_weights` of rows in falling order, `hit` being 1 at positives and invalid ones below 0."""
    one = xp.ones_like(hit)
    fresh = ranked[:, 1:] != ranked[:, :-1]
    edge = xp.ones_like(ranked[:, :1], dtype=xp.bool)
    first, last = xp.concat([edge, fresh], axis=-1), xp.concat([fresh, edge], axis=-1)
    hits, all_ = running_sum(xp, hit), running_sum(xp, one)
    positives = hits[:, -1:]
    zero = xp.zeros_like(hit)
    # What was ranked before a group stands at its first entry, what is left after it at its last: both only grow
    # along the row (or against it), so that a running maximum spreads them over the group.
    k1 = running_max(xp, xp.where(first, hits - hit, zero))
    n1 = running_max(xp, xp.where(first, all_ - one, zero))
    total = xp.full_like(positives, ranked.shape[1])
    k2 = positives - xp.flip(running_max(xp, xp.flip(xp.where(last, positives - hits, zero), axis=-1)), axis=-1)
    n2 = total - xp.flip(running_max(xp, xp.flip(xp.where(last, total - all_, zero), axis=-1)), axis=-1)
    tied = xp.astype(n2 - n1, ranked.dtype)
    left, before, after = (
        xp.astype(a, ranked.dtype) for a in (2 * positives - k1 - k2, positives + n1 - k1, positives + n2 - k2)
    )
    # With no positives at all `before` is 0 in the first group alone, which then weighs 1.
    some = before > 0.0
    before = where_or(xp, some, before, 1.0)
    weight = 0.5 * xp.where(hit > 0, 1.0 / before + 1.0 / after, left / (before * after))
    return where_or(xp, ranked >= 0.0, xp.where(some, weight, 1.0 / tied), 0.0)


def _running_max(xp: Namespace, x: Array) -> Array:
    """Return the running maximum along rows of non-negative numbers, by doubling: no namespace has one."""
    step = 1
    while step < x.shape[-1]:
        x = xp.maximum(x, xp.concat([xp.zeros_like(x[:, :step]), x[:, :-step]], axis=-1))
        step *= 2
    return x

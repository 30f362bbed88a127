"""The Lovasz extension of the Jaccard loss, value and slopes at once, for NumPy and for whatever shares its memory.

The extension is linear in the errors once these are ranked, so that its gradient is the weights of the ranks, put back
to where the errors stood. Non-negative float32 numbers are ordered as their bits are: inverted bits in the high half of
a 64-bit integer, place and a flag of the positives in the low half, and one sort of integers gives order, places
and flags at once.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

Array = Any

#: The halves of a 64-bit integer, low and high, as 32-bit integers.
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)
_FLAG = np.uint32(1 << 31)
_PLACE = np.uint64((1 << 31) - 1)
#: Errors without weight are left out of a sort where they are more than this share; picking the others costs too.
_IDLE = 0.4
#: Scores whose margins are taken at once, so that what lies between stays in the cache.
_BLOCK = 1 << 15


# Other libraries call these two, whatever NumPy has been told about floating-point errors.
@np.errstate(all="ignore")
def softmax_extension(p: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array]:
    """Return the losses of the classes `(sets, C)` at errors |[y = c] - p_c|, and their slopes with respect to p.

    p is `(N, C, *S)` with 0 where not valid; a label of C belongs to no class.
    """
    shape = p.shape
    p, labels, valid = _sets(p, labels, valid, per_image)
    sets, images, count, positions = p.shape
    losses, slopes = np.empty((sets, count), p.dtype), np.empty(p.shape, p.dtype)
    places, out = np.arange(images * positions), np.empty(images * positions, p.dtype)
    for s in range(sets):
        flat = labels[s].reshape(-1)
        if valid is not None:
            places = np.flatnonzero(valid[s])
            flat = flat[places]
        order, ends = _by_label(flat, count + 1)
        for c in range(count):
            errors = p[s, :, c].reshape(-1)
            errors = errors.copy() if valid is None else errors[places]
            hits = order[ends[c] : ends[c + 1]]
            errors[hits] = 1.0 - errors[hits]
            losses[s, c] = _extend(errors, places, hits, hits.size, out)
            slopes[s, :, c] = out.reshape((images, positions))
    return losses, slopes.reshape(shape)


@np.errstate(all="ignore")
def hinge_extension(z: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array]:
    """Return the loss `(sets, 1)` at errors max(0, 1 - z (2 y - 1)), and its slopes with respect to z `(N, 1, *S)`."""
    shape = z.shape
    z, labels, valid = _sets(z, labels, valid, per_image)
    losses, slopes = np.empty((len(z), 1), z.dtype), np.empty((len(z), z.shape[1] * z.shape[3]), z.dtype)
    for s in range(len(z)):
        mask = None if valid is None else valid[s].reshape(-1)
        losses[s, 0] = _extend(*_margins(z[s].reshape(-1), labels[s].reshape(-1), mask), slopes[s])
    return losses, slopes.reshape(shape)


def _sets(x: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array, Array | None]:
    """Return views as (sets, images of a set, classes, positions); of labels and masks without the classes."""
    split = (x.shape[0], 1) if per_image else (1, x.shape[0])
    positions = (math.prod(x.shape[2:]),)
    x = x.reshape(split + x.shape[1:2] + positions)
    return x, labels.reshape(split + positions), None if valid is None else valid.reshape(split + positions)


def _by_label(labels: Array, classes: int) -> tuple[Array, Array]:
    """Return the places of all labels, ordered by label, and where each begins."""
    kind = np.uint8 if classes <= 255 else np.uint16 if classes <= 65535 else np.intp
    # A stable sort of small integers counts, and compares nothing.
    order = np.argsort(labels.astype(kind), kind="stable")
    return order, np.concatenate(([0], np.cumsum(np.bincount(labels, minlength=classes))))


def _margins(z: Array, labels: Array, valid: Array | None) -> tuple[Array, Array, Array, int]:
    """Return the errors above 0, their places, which of them are positive, and the number of all positives.

    Errors of 0 weigh nothing, and change nothing in what others weigh.
    """
    found, positives = [], 0
    for start in range(0, max(z.size, 1), _BLOCK):
        at = slice(start, start + _BLOCK)
        positive = labels[at] > 0
        errors = 1.0 - np.where(positive, z[at], -z[at])
        kept = ~(errors <= 0.0)  # with a NaN, which must reach the loss
        if valid is not None:
            positive &= valid[at]
            kept &= valid[at]
        places = np.flatnonzero(kept)
        found.append((errors[places], places + start, positive[places]))
        positives += int(np.count_nonzero(positive))
    errors, places, positive = map(np.concatenate, zip(*found, strict=True))
    return errors, places, np.flatnonzero(positive), positives


def _ranked(errors: Array, places: Array, hits: Array, least: Any) -> tuple[Array, Array, Array]:
    """Return the errors from `least` up in falling order, which of them are positive, and their places."""
    if errors.dtype != np.float32 or places.size >= 2**31:
        positive = np.zeros(errors.size, dtype=bool)
        positive[hits] = True
        kept = np.flatnonzero(~(errors < least))
        order = kept[np.argsort(-errors[kept])]
        return errors[order], positive[order], places[order]
    keys = np.empty(errors.size, dtype=np.uint64)
    halves = keys.view(np.uint32)
    np.invert(errors.view(np.uint32), out=halves[_HIGH::2])
    halves[_LOW::2] = places
    halves[_LOW::2][hits] |= _FLAG
    bound = np.uint64((int(~np.float32(least).view(np.uint32)) + 1 << 32) - 1)
    if np.count_nonzero(keys[::64] > bound) > _IDLE * len(keys[::64]):
        keys = keys[keys <= bound]
    keys.sort()
    keys = keys[: np.searchsorted(keys, bound, side="right")]
    halves = keys.view(np.uint32)
    ranked = np.invert(halves[_HIGH::2]).view(np.float32)
    return ranked, halves[_LOW::2] >= _FLAG, (keys & _PLACE).view(np.int64)


def _extend(errors: Array, places: Array, hits: Array, g: int, slopes: Array) -> Any:
    """Return the extension at errors of which those at the hits are positive, and write its slopes at their places.

    There are `g` positives in all; what is not among the errors is 0.
    """
    slopes[...] = 0.0
    if g == 0:
        top = errors.max(initial=0.0)
        tied = places[errors == top]
        slopes[tied] = 1.0 / max(tied.size, 1)
        return top
    # Behind the last of all positives the weights are 0.
    least = np.fmin.reduce(errors[hits]) if hits.size == g else 0.0
    ranked, positive, places = _ranked(errors, places, hits, least)
    if ranked.size == 0:
        return 0.0
    hits = np.flatnonzero(positive)
    # With k positives ranked before and u = g + negatives ranked before: 1 / u, and (g - k) / (u (u + 1)).
    steps = np.diff(hits, prepend=-1, append=ranked.size - 1)
    left = np.repeat(np.arange(g, g - hits.size - 1, -1, dtype=ranked.dtype), steps)
    union = np.arange(ranked.size, dtype=ranked.dtype)
    union += left
    weights = union + 1.0
    weights *= union
    np.divide(left, weights, out=weights)
    weights[hits] = 1.0 / union[hits]
    _even_out_ties(weights, ranked, positive, hits, g)
    value = np.sum(np.multiply(weights, ranked, out=union))
    weights[hits] *= -1.0
    slopes[places] = weights
    return value


def _even_out_ties(weights: Array, ranked: Array, positive: Array, hits: Array, g: int) -> None:
    """Give tied errors weights that do not depend on their order: see `generic.lovasz_weights`."""
    tied = np.flatnonzero(ranked[1:] == ranked[:-1])
    if tied.size == 0:
        return
    apart = np.diff(tied) > 1
    first = tied[np.concatenate(([True], apart))]
    sizes = tied[np.concatenate((apart, [True]))] + 2 - first
    k1, k2 = np.searchsorted(hits, first), np.searchsorted(hits, first + sizes)
    before = g + first - k1
    after = before + sizes - (k2 - k1)
    at = np.repeat(first - np.cumsum(sizes) + sizes, sizes)
    at += np.arange(at.size)
    of_positives = np.repeat(0.5 / before + 0.5 / after, sizes)
    of_negatives = np.repeat((g - 0.5 * (k1 + k2)) / before / after, sizes)
    weights[at] = np.where(positive[at], of_positives, of_negatives)

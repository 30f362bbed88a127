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

#: Entries are left out of a sort where fewer than this share of them can have a weight; picking them costs too.
_WORTHWHILE = 0.6
#: The halves of a 64-bit integer, low and high, as 32-bit integers.
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def softmax_extension(p: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array]:
    """Return the losses of the classes `(sets, C)` at errors |[y = c] - p_c|, and their slopes with respect to p.

    p is `(N, C, *S)` with 0 where not valid; a label of C belongs to no class.
    """
    shape, dtype = p.shape, p.dtype
    p, labels, valid = _sets(p, labels, valid, per_image)
    images, count, positions = p.shape[1:]
    losses, slopes = np.empty((len(p), count), dtype=dtype), np.empty(p.shape, dtype=dtype)
    work = _Work(images * positions, dtype)
    errors, out = np.empty((2, images * positions), dtype=dtype)
    for s in range(len(p)):
        order, ends = _by_label(labels[s], None if valid is None else valid[s], count + 1)
        work.clear()
        work.places[order[ends[-1] :]] = work.ignored
        for c in range(count):
            positives = order[ends[c] : ends[c + 1]]
            errors.reshape((images, positions))[...] = p[s, :, c]
            errors[positives] = 1.0 - errors[positives]
            work.places[positives] |= work.flag
            losses[s, c] = _row(errors, positives, ends[-1], positives.size, out, work)
            work.places[positives] ^= work.flag
            slopes[s, :, c] = out.reshape((images, positions))
    return losses, slopes.reshape(shape)


def hinge_extension(z: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array]:
    """Return the loss `(sets, 1)` at errors max(0, 1 - z (2 y - 1)), and its slopes with respect to z `(N, 1, *S)`."""
    shape, dtype = z.shape, z.dtype
    z, labels, valid = _sets(z, labels, valid, per_image)
    losses: Array = np.zeros((len(z), 1), dtype=dtype)
    slopes: Array = np.zeros((len(z), z.shape[1] * z.shape[3]), dtype=dtype)
    for s, out in enumerate(slopes):
        positive: Array = labels[s].reshape(-1) > 0
        if valid is not None:
            positive &= valid[s].reshape(-1)
        errors = z[s].reshape(-1)
        errors = np.where(positive, 1.0 - errors, 1.0 + errors)
        kept = ~(errors <= 0.0)  # with a NaN, which must reach the loss
        if valid is not None:
            kept &= valid[s].reshape(-1)
        # Errors of 0 rank last and weigh nothing, nor do they change what others weigh.
        places = np.flatnonzero(kept)
        hits = np.flatnonzero(positive[places])
        work = _Work(places.size, dtype)
        work.places[hits] |= work.flag
        picked = np.empty(places.size, dtype=dtype)
        g = int(np.count_nonzero(positive))
        losses[s, 0] = _row(errors[places], hits, places.size, g, picked, work)
        out[places] = picked
    return losses, slopes.reshape(shape)


def _sets(x: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array, Array | None]:
    """Return views as (sets, images of a set, classes, positions); of labels and masks without the classes."""
    split = (x.shape[0], 1) if per_image else (1, x.shape[0])
    positions = (math.prod(x.shape[2:]),)
    x = x.reshape(split + x.shape[1:2] + positions)
    return x, labels.reshape(split + positions), None if valid is None else valid.reshape(split + positions)


def _by_label(labels: Array, valid: Array | None, classes: int) -> tuple[Array, Array]:
    """Return the places of all labels, ordered by label and what is not valid at the end, and where each begins."""
    kind = np.uint8 if classes <= 255 else np.uint16 if classes <= 65535 else np.intp
    flat = labels.reshape(-1).astype(kind)
    if valid is not None:
        flat[~valid.reshape(-1)] = classes
    # A stable sort of small integers counts, and compares nothing.
    order = np.argsort(flat, kind="stable")
    return order, np.concatenate(([0], np.cumsum(np.bincount(flat, minlength=classes + 1)[:classes])))


class _Work:
    """Arrays that the rows of one call share, and how they mark the places of errors."""

    def __init__(self, size: int, dtype: Any) -> None:
        self.packed = dtype == np.float32 and size < 2**31
        kind, bits = (np.uint32, 32) if self.packed else (np.uint64, 64)
        #: Added to the places of positives.
        self.flag = kind(1 << (bits - 1))
        #: Stands for places that do not count: beyond all others, so that they rank behind the last error of 0.
        self.ignored = kind((1 << bits) - 1)
        self.places: Array = np.arange(size, dtype=kind)
        self.keys = np.empty(size if self.packed else 0, dtype=np.uint64)
        self.ranks = np.arange(size, dtype=dtype)

    def clear(self) -> None:
        """Set every place to its number."""
        self.places[...] = np.arange(self.places.size, dtype=self.places.dtype)


def _row(errors: Array, positives: Array, size: int, g: int, slopes: Array, work: _Work) -> float:
    """Return the extension at a row of errors of which `size` count, `g` of them positive, and write its slopes.

    `positives` are the places of those positives that are in the row; the others have an error of 0.
    """
    if g == 0:
        return _absent(errors, slopes, work)
    # Behind the least error of a positive all weights are 0.
    least = errors[positives].min() if positives.size == g else 0.0
    weighty = ~(errors < least)
    reach = min(int(np.count_nonzero(weighty)), size)
    ranked, hits, places = _rank(errors, weighty, reach, work)
    slopes[...] = 0.0
    if reach == 0:
        return 0.0
    # With k positives ranked before and u = g + negatives ranked before: 1 / u, and (g - k) / (u (u + 1)).
    steps = np.diff(hits, prepend=-1, append=reach - 1)
    left = np.repeat(np.arange(g, g - hits.size - 1, -1, dtype=errors.dtype), steps)
    union = left + work.ranks[:reach]
    weights = union + 1.0
    weights *= union
    np.divide(left, weights, out=weights)
    weights[hits] = 1.0 / union[hits]
    _share_among_tied(weights, ranked, hits, g)
    value = np.sum(weights * ranked)
    weights[hits] *= -1.0
    slopes[places] = weights
    return value


def _absent(errors: Array, slopes: Array, work: _Work) -> float:
    """Return the extension where nothing is positive: the largest error, shared among those tied."""
    top: float = errors.max(initial=0.0)
    tied = (errors == top) & (work.places != work.ignored)
    slopes[...] = tied / max(np.count_nonzero(tied), 1)
    return top


def _rank(errors: Array, weighty: Array, reach: int, work: _Work) -> tuple[Array, Array, Array]:
    """Return the `reach` largest errors in falling order, the ranks of positives among them, and the places of all."""
    if not work.packed:
        order = np.flatnonzero(weighty & (work.places != work.ignored))
        order = order[np.argsort(-errors[order])]
        return errors[order], np.flatnonzero(work.places[order] >= work.flag), order
    keys = work.keys
    halves = keys.view(np.uint32)
    np.invert(errors.view(np.uint32), out=halves[_HIGH::2])
    halves[_LOW::2] = work.places
    if reach < _WORTHWHILE * errors.size:
        keys = keys[weighty]
    keys.sort()
    halves = keys[:reach].view(np.uint32)
    low = halves[_LOW::2]
    ranked = np.invert(halves[_HIGH::2]).view(np.float32)
    return ranked, np.flatnonzero(low >= work.flag), (low & ~work.flag).astype(np.intp)


def _share_among_tied(weights: Array, ranked: Array, hits: Array, g: int) -> None:
    """Give each of the tied errors its part of what they weigh together, so that their order does not matter.

    With k positives and b negatives ranked before a group that has dk and db of them it weighs
    ((g - k) db / (g + b) + dk) / (g + b + db).
    """
    tied = np.flatnonzero(ranked[1:] == ranked[:-1])
    if tied.size == 0:
        return
    apart = np.diff(tied) > 1
    first = tied[np.concatenate(([True], apart))]
    sizes = tied[np.concatenate((apart, [True]))] + 2 - first
    k = np.searchsorted(hits, first)
    dk = np.searchsorted(hits, first + sizes) - k
    union = g + first - k
    shares = ((g - k) * ((sizes - dk) / union) + dk) / (union + sizes - dk) / sizes
    begins = np.repeat(first - np.cumsum(sizes) + sizes, sizes)
    weights[begins + np.arange(begins.size)] = np.repeat(shares, sizes)

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
_LAST = np.uint32((1 << 32) - 1)
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
    shape, dtype = p.shape, p.dtype
    p, labels, valid = _sets(p, labels, valid, per_image)
    images, count, positions = p.shape[1:]
    losses, slopes = np.empty((len(p), count), dtype=dtype), np.empty(p.shape, dtype=dtype)
    row, out = _row(images * positions, dtype), np.empty(images * positions, dtype=dtype)
    for s in range(len(p)):
        order, ends = _by_label(labels[s], None if valid is None else valid[s], count + 1)
        row.number(order[ends[-1] :])
        for c in range(count):
            positives = order[ends[c] : ends[c + 1]]
            least = row.distances(p[s, :, c], positives)
            losses[s, c] = _extend(row, least, int(ends[-1]), positives.size, out)
            slopes[s, :, c] = out.reshape((images, positions))
    return losses, slopes.reshape(shape)


@np.errstate(all="ignore")
def hinge_extension(z: Array, labels: Array, valid: Array | None, per_image: bool) -> tuple[Array, Array]:
    """Return the loss `(sets, 1)` at errors max(0, 1 - z (2 y - 1)), and its slopes with respect to z `(N, 1, *S)`."""
    shape, dtype = z.shape, z.dtype
    z, labels, valid = _sets(z, labels, valid, per_image)
    losses, slopes = np.empty((len(z), 1), dtype=dtype), np.empty((len(z), z.shape[1] * z.shape[3]), dtype=dtype)
    row = _row(slopes.shape[1], dtype)
    for s in range(len(z)):
        flat = None if valid is None else valid[s].reshape(-1)
        size, positives = row.margins(z[s].reshape(-1), labels[s].reshape(-1), flat)
        # Only errors above 0 are in the row: those of 0 weigh nothing, and change nothing in what others weigh.
        losses[s, 0] = _extend(row, 0.0, size, positives, slopes[s])
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


class _Packed:
    """A row of float32 errors as integers that are ordered against the errors, with their places and flags."""

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size, dtype=np.uint64)
        self.places: Array = np.arange(size, dtype=np.uint32)
        self._fill(size)

    def _fill(self, size: int) -> None:
        self.keys = self.memory[:size]
        halves = self.keys.view(np.uint32)
        self.low, self.high = halves[_LOW::2], halves[_HIGH::2]

    def number(self, ignored: Array) -> None:
        """Number the places, and those ignored so that they rank behind the last error of 0."""
        self.places[...] = np.arange(self.places.size, dtype=np.uint32)
        self.places[ignored] = _LAST

    def distances(self, p: Array, positives: Array) -> Any:
        """Fill the row with p, and 1 - p at the positives; return the least error of these."""
        np.invert(p.view(np.uint32), out=self.high.reshape(p.shape))
        self.low[...] = self.places
        errors = 1.0 - np.invert(self.high[positives]).view(np.float32)
        self.high[positives] = np.invert(errors.view(np.uint32))
        self.low[positives] |= _FLAG
        return errors.min(initial=np.inf)

    def margins(self, z: Array, labels: Array, valid: Array | None) -> tuple[int, int]:
        """Fill the row with the errors above 0; return their number, and that of all positives."""
        size = positives = 0
        for start in range(0, z.size, _BLOCK):
            at = slice(start, start + _BLOCK)
            flag = labels[at].astype(np.uint32) << np.uint32(31)
            if valid is not None:
                flag *= valid[at]
            positives += int(np.count_nonzero(flag))
            # -z where the label is 0, by its sign bit.
            errors = 1.0 - (z[at].view(np.uint32) ^ ~flag & _FLAG).view(np.float32)
            kept = ~(errors <= 0.0)  # with a NaN, which must reach the loss
            found = np.flatnonzero(kept if valid is None else kept & valid[at])
            self._fill(size + found.size)
            self.high[size:] = np.invert(errors[found].view(np.uint32))
            self.low[size:] = found.astype(np.uint32) + np.uint32(start) | flag[found]
            size += found.size
        return size, positives

    def largest(self) -> tuple[Any, Array]:
        """Return the largest error and its places."""
        least = self.high.min(initial=_LAST)
        return np.invert(least[None]).view(np.float32)[0], self.low[(self.high == least) & (self.low != _LAST)]

    def rank(self, least: Any, size: int) -> tuple[Array, Array, Array]:
        """Return the errors from `least` up in falling order, which of them are positive, and their places."""
        # Of a NaN every key is within the bound.
        bound = np.uint64(int(~np.float32(least).view(np.uint32)) << 32 | int(_LAST)) if least == least else None
        keys = self.keys
        if bound is not None and np.count_nonzero(keys[::64] > bound) > _IDLE * len(keys[::64]):
            keys = keys[keys <= bound]
        keys.sort()
        keys = keys[: size if bound is None else min(size, int(np.searchsorted(keys, bound, side="right")))]
        halves = keys.view(np.uint32)
        ranked = np.invert(halves[_HIGH::2]).view(np.float32)
        return ranked, halves[_LOW::2] >= _FLAG, (keys & _PLACE).view(np.int64)


class _Plain:
    """A row of errors of any dtype, ranked by an argsort."""

    def __init__(self, size: int, dtype: Any) -> None:
        self.errors, self.flags = np.empty(size, dtype=dtype), np.empty(size, dtype=bool)
        self.places: Array = np.arange(size)

    def number(self, ignored: Array) -> None:
        """Note the places that count."""
        self.places = np.delete(np.arange(self.errors.size), ignored)

    def distances(self, p: Array, positives: Array) -> Any:
        """Fill the row with p, and 1 - p at the positives; return the least error of these."""
        self.errors.reshape(p.shape)[...] = p
        self.errors[positives] = errors = 1.0 - self.errors[positives]
        self.flags[...] = False
        self.flags[positives] = True
        return errors.min(initial=np.inf)

    def margins(self, z: Array, labels: Array, valid: Array | None) -> tuple[int, int]:
        """Fill the row with the errors above 0; return their number, and that of all positives."""
        self.flags[...] = (labels > 0) if valid is None else (labels > 0) & valid
        self.errors[...] = np.where(self.flags, 1.0 - z, 1.0 + z)
        kept = ~(self.errors <= 0.0)
        self.places = np.flatnonzero(kept if valid is None else kept & valid)
        return self.places.size, int(np.count_nonzero(self.flags))

    def largest(self) -> tuple[Any, Array]:
        """Return the largest error and its places."""
        errors = self.errors[self.places]
        top = errors.max(initial=0.0)
        return top, self.places[errors == top]

    def rank(self, least: Any, size: int) -> tuple[Array, Array, Array]:
        """Return the errors from `least` up in falling order, which of them are positive, and their places."""
        errors = self.errors[self.places]
        kept = ~(errors < least)
        order = self.places[kept][np.argsort(-errors[kept])]
        return self.errors[order], self.flags[order], order


def _row(size: int, dtype: Any) -> _Packed | _Plain:
    return _Packed(size) if dtype == np.float32 and size < 2**31 else _Plain(size, dtype)


def _extend(row: _Packed | _Plain, least: Any, size: int, g: int, slopes: Array) -> Any:
    """Return the extension at a row of which `size` errors count, `g` of them positive, and write its slopes.

    Behind the `least` error of a positive all weights are 0.
    """
    slopes[...] = 0.0
    if g == 0:
        top, tied = row.largest()
        slopes[tied] = 1.0 / max(tied.size, 1)
        return top
    ranked, positive, places = row.rank(least, size)
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

"""Hard-pixel selection: masks of positions, constants to differentiation, in which ties stay together.

Every comparison is written so that a NaN is selected: a loss that is not a number must reach the result.
"""

from __future__ import annotations

import math
from typing import Any

from arrayloss._core.inputs import Inputs

Array = Any


def largest(inputs: Inputs, ranks: Array, k: int) -> Array | None:
    """Return the mask of the k largest of all ranks `(N, *S)` and their ties, among the valid positions.

    Where fewer than k positions are valid all of them are kept. None stands for all positions.
    """
    kernels = inputs.kernels
    if k >= math.prod(ranks.shape):
        return inputs.valid
    ranks = kernels.constant(ranks)
    if k == 0:
        return ranks != ranks
    candidates = _last_where_ignored(inputs, ranks)
    return _among(inputs, ~(candidates < _kth(inputs, candidates, k)))


def hard(inputs: Inputs, nll: Array, thresh: float, min_kept: int) -> Array | None:
    """Return the mask of OHEM: probability under `thresh`, or among the `min_kept` lowest, of the valid positions.

    Probabilities are compared as their negative logarithms. None stands for all positions.
    """
    if min_kept >= math.prod(nll.shape):
        return inputs.valid
    xp, kernels = inputs.xp, inputs.kernels
    nll = kernels.constant(nll)
    # No probability is under 0.
    kept = ~(nll <= -math.log(thresh)) if thresh else nll != nll
    if min_kept:
        # With fewer valid positions than min_kept the last one needed is an ignored one, and all are kept.
        candidates = _last_where_ignored(inputs, nll)
        row = xp.reshape(candidates, (1, math.prod(nll.shape)))
        if thresh:
            last = kernels.kth_largest_below(xp, row, min_kept, -math.log(thresh))
        else:
            last = kernels.kth_largest(xp, row, min_kept)
        kept = kept | ~(candidates < last[0, ...])
    return _among(inputs, kept)


def bootstrapped(inputs: Inputs, ranks: Array, at_least: int, above: float) -> Array:
    """Return, per image, the mask of ranks above a threshold, or of the `at_least` largest where those are more."""
    xp, kernels = inputs.xp, inputs.kernels
    ranks = kernels.constant(ranks)
    images, size = ranks.shape[0], math.prod(ranks.shape[1:])
    rows = xp.reshape(_last_where_ignored(inputs, ranks), (images, size))
    if size == 0:
        return ranks != ranks
    largest = ~(rows < _row_kth(inputs, rows, min(at_least, size))) if at_least else rows != rows
    if at_least < size:
        enough = _row_kth(inputs, rows, at_least + 1) > above
        largest = xp.where(enough, ~(rows <= above), largest)
    kept = xp.reshape(largest, ranks.shape)
    return _among(inputs, kept)


def _last_where_ignored(inputs: Inputs, ranks: Array) -> Array:
    """Return ranks of which no valid one is less than those of what is ignored: the least finite number."""
    if inputs.valid is None:
        return ranks
    xp = inputs.xp
    least = -float(xp.finfo(ranks.dtype).max)
    return inputs.kernels.where_or(xp, inputs.valid, xp.maximum(ranks, xp.full_like(ranks, least)), least)


def _among(inputs: Inputs, kept: Array) -> Array:
    return kept if inputs.valid is None else kept & inputs.valid


def _kth(inputs: Inputs, ranks: Array, k: int) -> Array:
    """Return the k-th largest of all ranks, 0-d."""
    row = inputs.xp.reshape(ranks, (1, math.prod(ranks.shape)))
    return inputs.kernels.kth_largest(inputs.xp, row, k)[0, ...]


def _row_kth(inputs: Inputs, rows: Array, k: int) -> Array:
    """Return the k-th largest of each row, as a column."""
    return inputs.xp.expand_dims(inputs.kernels.kth_largest(inputs.xp, rows, k), axis=1)

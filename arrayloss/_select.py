"""Hard-pixel selection: masks of positions, constants to differentiation, in which ties stay together.

Every comparison is written so that a NaN is selected: a loss that is not a number must reach the result.
"""

from __future__ import annotations

import math
from typing import Any

from arrayloss._inputs import Inputs

Array = Any


def largest(inputs: Inputs, ranks: Array, k: int) -> Array | None:
    """Return the mask of the k largest of all ranks `(N, *S)` and their ties, among the valid positions.

    Where fewer than k positions are valid all of them are kept. None stands for all positions.
    """
    xp, kernels = inputs.xp, inputs.kernels
    if k >= math.prod(ranks.shape):
        return inputs.valid
    ranks = kernels.constant(ranks)
    if k == 0:
        return ranks != ranks
    candidates = kernels.where_or(xp, inputs.valid, ranks, -math.inf)
    kept = ~(candidates < kernels.kth_largest(xp, candidates, k))
    return kept if inputs.valid is None else kept & inputs.valid

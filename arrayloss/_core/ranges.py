"""Values that must lie in a range: they raise where they can be read, and poison the loss where they cannot."""

from __future__ import annotations

import math
from typing import Any

from arrayloss._core import errors
from arrayloss._machines.namespace import Library

Array = Any


def check_probabilities(
    function: str,
    library: Library,
    target: Array,
    valid: Array | None = None,
    found: tuple[float, float] | None = None,
    names: str = "target",
) -> Array | None:
    """Refuse a target outside [0, 1] where that can be read, else return the poison (see `Inputs`).

    `found` is the range of the target, where that was read already; `names` is what the caller calls it.
    """
    expected = "probabilities in [0, 1]"
    return check_range(function, library, names, target, 1.001, expected, valid, found)


def check_range(
    function: str,
    library: Library,
    argument: str,
    x: Array,
    upper: float | None,
    expected: str,
    valid: Array | None,
    found: tuple[float, float] | None,
) -> Array | None:
    """Refuse valid values outside [0, upper] where they can be read, else return the poison (see `Inputs`).

    Without an upper bound NaN passes, and makes the loss NaN by itself. `found` is the range of all values, where that
    was read already.
    """

    def wrong(low: Any, high: Any) -> Any:
        return low < 0.0 if upper is None else (low < 0.0) | (high > upper) | (low != low)

    if found is None or valid is not None:
        x = library.kernels.constant(library.kernels.where_or(library.xp, valid, x, 0.0))
        found = library.kernels.host_range(x)
    if found is not None:
        if wrong(*found):
            more = "; for -1 and 1 pass (target + 1) / 2" if upper is not None and found == (-1, 1) else ""
            raise errors.values(function, argument, found, expected, more)
        return None
    if math.prod(x.shape) == 0:
        return None
    # The least and the largest, since a reduction of a mask would take longer.
    high = None if upper is None else library.xp.max(x)
    return poison(library, wrong(library.xp.min(x), high))


def poison(library: Library, wrong: Array) -> Array:
    """Return 1, or NaN if anything is wrong, 0-d: what a loss that cannot raise is multiplied by."""
    xp = library.xp
    any_wrong = library.kernels.any_of(xp, wrong)
    one = xp.astype(any_wrong, xp.float32) * 0.0 + 1.0
    return library.kernels.where_or(xp, ~any_wrong, one, math.nan)

"""The door of losses that compare a prediction with a target entry by entry, without classes."""

from __future__ import annotations

from typing import Any

from arrayloss._core import errors
from arrayloss._core.inputs import Inputs, same_shape
from arrayloss._core.labels import read_entries
from arrayloss._core.logits import open_logits
from arrayloss._core.ranges import check_range
from arrayloss._machines.namespace import FLOATS, LABELS, dtype_name

Array = Any


def open_entries(
    function: str,
    prediction: Array,
    target: Array,
    ignore_index: int | None,
    *,
    counts: bool = False,
    extra: dict[str, Any] | None = None,
    names: str = "logits",
) -> Inputs:
    """Check the inputs of a loss that compares entry by entry, without classes, and return them clean.

    `counts` says whether the target may not be negative, and is to be 0 where ignored; `extra` names further arrays of
    the call, which must be of the same library; `names` is what the caller calls the prediction.
    """
    library, x = open_logits(function, {names: prediction, "target": target, **(extra or {})}, names)
    kind = dtype_name(target)
    same_shape(function, "target", target, tuple(prediction.shape))
    if kind not in FLOATS | LABELS:
        raise errors.dtype(function, "target", target, "a real floating or integer dtype")
    _, valid, found = read_entries(library, target, ignore_index)
    given, bad = library.xp.astype(target, x.dtype, copy=False), None
    if counts:
        expected = "counts of at least 0"
        found = found if kind in FLOATS and valid is None else None
        bad = check_range(function, library, "target", given, None, expected, valid, found)
        given = library.kernels.where_or(library.xp, valid, given, 0.0)
    return Inputs(function, library, x, None, given, valid, bad, 1, True)

"""The door of losses that compare scores with those of a teacher."""

from __future__ import annotations

from typing import Any

from arrayloss._core import errors
from arrayloss._core.classes import target_form
from arrayloss._core.inputs import Inputs
from arrayloss._core.labels import open_labels
from arrayloss._core.logits import class_axis, class_axis_to_1, of_library, open_logits
from arrayloss._machines.namespace import FLOATS, dtype_name

Array = Any


def open_teacher(
    function: str,
    logits: Array,
    target: Array,
    labels: Array | None,
    axis: int,
    ignore_index: int | None,
    weights: dict[str, Any] | None = None,
) -> Inputs:
    """Check the inputs of a loss that compares the logits with those of a teacher, and return them clean.

    Labels are an argument of the call that may be left out; nothing is ignored then.
    """
    given = {} if labels is None else {"labels": labels}
    library, scores = open_logits(function, {"logits": logits, "target": target, **given, **of_library(weights or {})})
    xp, whole = library.xp, tuple(logits.shape)
    axis = class_axis(function, logits, axis)
    if whole[axis] == 0:
        raise errors.no_classes(function, logits, axis)
    if tuple(target.shape) != whole:
        expected = f"the logits of the teacher in the shape of the logits, {whole}"
        raise errors.shape(function, "target", target, expected, "; class labels to ignore by go into labels=")
    if dtype_name(target) not in FLOATS:
        expected = "a real floating dtype: the logits of the teacher"
        raise errors.dtype(function, "target", target, expected, "; class labels go into labels=")
    scores, teacher = (class_axis_to_1(xp, x, axis) for x in (scores, xp.astype(target, scores.dtype, copy=False)))
    found = valid = bad = None
    if labels is not None:
        target_form(function, logits, labels, axis, False, "labels")
        flat = xp.reshape(labels, (scores.shape[0], *scores.shape[2:]))
        found, valid, bad = open_labels(function, library, flat, scores.shape[1], ignore_index, "labels")
    teacher = library.kernels.constant(teacher)
    return Inputs(function, library, scores, found, teacher, valid, bad, axis, logits.ndim > 1)

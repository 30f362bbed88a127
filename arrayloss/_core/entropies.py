"""Losses of positions over classes: cross entropy, and functions of it."""

from __future__ import annotations

from typing import Any

from arrayloss._core import reduce
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._machines.generic import Formula

Array = Any


def opened(function: str, logits: Array, target: Array, options: dict[str, Any]) -> Inputs:
    """Return the clean inputs of a loss that takes labels and probabilities, by its options."""
    return open_classes(
        function, logits, target, axis=options["axis"], ignore_index=options["ignore_index"], probabilities=True
    )


def of_classes(
    inputs: Inputs, class_weight: Array | None, smoothing: float, formula: Formula | None = None, *numbers: float
) -> tuple[Array, Array | None]:
    """Return the losses of all positions, 0 where ignored, and the class weights there (None where it has none).

    A class of probability p costs f(-log p) with a formula f of the cross entropy, which is 0 at 0, and -log p without
    one. Labels cost what their class does, and probabilities the mean over the classes that they give.
    """
    xp, k = inputs.xp, inputs.kernels
    if inputs.labels is None:
        t = inputs.target if not smoothing else inputs.target * (1.0 - smoothing) + smoothing / inputs.classes
        return _soft(inputs, t, class_weight, formula, *numbers), None
    losses = k.label_nll(xp, inputs.logits, inputs.labels, inputs.valid)
    if formula is not None:
        losses = k.entry_losses(xp, losses, None, inputs.valid, formula, *numbers)
    losses, weights = inputs.weigh(losses, class_weight)
    if smoothing:
        ones = xp.ones_like(k.constant(inputs.logits))
        even = _soft(inputs, ones, class_weight, formula, *numbers) * (smoothing / inputs.classes)
        losses = even if smoothing == 1.0 else losses * (1.0 - smoothing) + even
    return losses, weights


def _soft(inputs: Inputs, t: Array, class_weight: Array | None, formula: Formula | None, *numbers: float) -> Array:
    """Return sum_c w_c t_c f(-log p_c), where a class of coefficient 0 counts nothing even if that is infinite."""
    xp, k = inputs.xp, inputs.kernels
    if class_weight is not None:
        t = t * xp.reshape(class_weight, (1, -1) + (1,) * (t.ndim - 2))
    log_p = k.where_or(xp, t != 0.0, k.log_softmax(xp, inputs.logits, inputs.valid), 0.0)
    if formula is None:
        return -xp.sum(log_p * t, axis=1)
    return xp.sum(k.entry_losses(xp, -log_p, None, None, formula, *numbers) * t, axis=1)


def reduced(
    inputs: Inputs,
    class_weight: Array | None,
    options: dict[str, Any],
    formula: Formula | None = None,
    *numbers: float,
) -> Any:
    """Return the losses that `of_classes` gives, with the options `label_smoothing` (if it is one) and `reduction`."""
    losses, weights = of_classes(inputs, class_weight, options.get("label_smoothing", 0.0), formula, *numbers)
    return reduce.valid_positions(inputs, losses, weights, options["reduction"])

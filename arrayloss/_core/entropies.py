"""Losses of positions over classes: cross entropy, and functions of it."""

from __future__ import annotations

from typing import Any

from arrayloss._core import reduce
from arrayloss._core.inputs import Inputs
from arrayloss._machines.formula import CROSS, Array, Formula, OfClasses


def of_classes(
    inputs: Inputs,
    class_weight: Array | None,
    smoothing: float,
    formula: Formula | None = None,
    of_class: Formula | None = None,
    *numbers: float,
) -> tuple[Array, Array | None]:
    """Return the losses of all positions, 0 where ignored, and the class weights there (None where it has none).

    A class of probability p costs f(-log p) with a formula f of the cross entropy, which is 0 at 0, and -log p without
    one. Labels cost what their class does, and probabilities the mean over the classes that they give, of which
    `of_class` is the formula.
    """
    xp, k = inputs.xp, inputs.kernels
    if inputs.labels is not None and not smoothing:
        losses = k.label_nll(xp, inputs.logits, inputs.labels, inputs.valid)
        if formula is not None:
            losses = k.entry_losses(xp, losses, None, inputs.valid, formula, *numbers)
        return inputs.weigh(losses, class_weight)
    target, weights = inputs.labels, None
    how = OfClasses(of_class or CROSS, numbers, smoothing=smoothing)
    if target is None:
        target = inputs.target if not smoothing else inputs.target * (1.0 - smoothing) + smoothing / inputs.classes
    elif class_weight is not None:
        weights = k.take_class(xp, class_weight, target)
    return k.classes(xp, inputs.logits, target, None, inputs.valid, class_weight, how), weights


def reduced(
    inputs: Inputs,
    class_weight: Array | None,
    smoothing: float,
    reduction: str,
    formula: Formula | None = None,
    of_class: Formula | None = None,
    *numbers: float,
) -> Any:
    """Return the losses that `of_classes` gives, reduced."""
    losses, weights = of_classes(inputs, class_weight, smoothing, formula, of_class, *numbers)
    return reduce.valid_positions(inputs, losses, weights, reduction)

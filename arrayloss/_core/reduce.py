"""From losses at positions, regions or entries to the result: mean, sum, none and parts, written once."""

from __future__ import annotations

import math
from typing import Any

from arrayloss._core.inputs import Inputs
from arrayloss._core.logits import class_axis_back
from arrayloss._machines.formula import Formula

Array = Any


def weight_of(
    inputs: Inputs, weights: Array | None, kept: Array | None, shape: tuple[int, ...], each: int = 1
) -> Array | float:
    """Return what a mean divides by: the sum of the weights of what is kept, without weights its number times `each`.

    A plain number where everything of `shape` is kept, else a 0-d float array.
    """
    xp = inputs.xp
    if weights is not None:
        return xp.sum(inputs.kernels.where_or(xp, kept, weights, 0.0))
    if kept is None:
        return float(math.prod(shape) * each)
    return xp.astype(inputs.kernels.count(xp, kept), inputs.logits.dtype) * float(each)


def ratio(inputs: Inputs, total: Array, weight: Array | float) -> Array:
    """Return total / weight, and 0 where the weight is 0: nothing was valid, or what was weighs nothing together."""
    if isinstance(weight, float):
        return total / weight if weight else total * 0.0
    where_or, xp = inputs.kernels.where_or, inputs.xp
    some = weight != 0.0
    return where_or(xp, some, total / where_or(xp, some, weight, 1.0), 0.0)


def one_minus(inputs: Inputs, numerator: Array, denominator: Array) -> Array:
    """Return 1 - numerator / denominator, and 0 where that is 0/0."""
    where_or, xp = inputs.kernels.where_or, inputs.xp
    there = ~(denominator <= 0.0)  # with a NaN, which must reach the result
    return where_or(xp, there, 1.0 - numerator / where_or(xp, there, denominator, 1.0), 0.0)


def finish(inputs: Inputs, value: Array) -> Array:
    """Return a result: NaN if an input that could not be read was wrong, and an array even where it is 0-d."""
    if inputs.poison is not None:
        value = value * inputs.xp.astype(inputs.poison, value.dtype)
    return inputs.kernels.as_array(value)


def positions(inputs: Inputs, losses: Array, weight: Array | float, reduction: str) -> Any:
    """Reduce weighted losses, 0 at ignored and unselected positions, whose mean divides by the 0-d `weight`."""
    xp = inputs.xp
    if reduction == "none":
        return finish(inputs, losses if inputs.batched or losses.ndim == 0 else losses[0, ...])
    total = xp.sum(losses)
    if reduction == "sum":
        return finish(inputs, total)
    if reduction == "mean":
        return finish(inputs, ratio(inputs, total, weight))
    if isinstance(weight, float):
        weight = inputs.kernels.scalar_like(xp, inputs.logits, weight)
    return finish(inputs, total), finish(inputs, weight)


def valid_positions(inputs: Inputs, losses: Array, weights: Array | None, reduction: str) -> Any:
    """Reduce losses of positions, 0 where ignored, whose mean divides by the weight or the number of valid ones."""
    return positions(inputs, losses, weight_of(inputs, weights, inputs.valid, losses.shape), reduction)


def number_of_entries(inputs: Inputs) -> Array | float:
    """Return how many entries are valid: labels are valid or not with all their classes."""
    counted, each = (inputs.logits, 1) if inputs.labels is None else (inputs.labels, inputs.classes)
    return weight_of(inputs, None, inputs.valid, counted.shape, each)


def entries(inputs: Inputs, reduction: str, formula: Formula, *options: float) -> Any:
    """Reduce the losses that a formula gives the entries, whose mean divides by the number of valid ones."""
    kernel = inputs.kernels.entry_losses if reduction == "none" else inputs.kernels.entry_total
    losses = kernel(inputs.xp, inputs.logits, inputs.aim, inputs.valid, formula, *options)
    if reduction == "none":
        losses = class_axis_back(inputs.xp, losses, inputs.axis if inputs.batched else 1)
    return positions(inputs, losses, number_of_entries(inputs), reduction)


def images(inputs: Inputs, losses: Array, weights: Array, reduction: str) -> Array:
    """Reduce weighted losses of positions to a mean over the images of the means within each, by their weights.

    Images without anything valid are left out of the mean.
    """
    if reduction != "mean":
        return positions(inputs, losses, 0.0, reduction)  # "parts" is refused as an option
    xp = inputs.xp
    rows = (losses.shape[0], math.prod(losses.shape[1:]))
    total, weight = (xp.sum(xp.reshape(a, rows), axis=1) for a in (losses, weights))
    number = weight_of(inputs, None, inputs.seen, (rows[0],))
    return finish(inputs, ratio(inputs, xp.sum(ratio(inputs, total, weight)), number))


def regions(inputs: Inputs, losses: Array, weight: Array | None, seen: Array | None, reduction: str) -> Array:
    """Reduce losses of each class in each image `(N, C)`, with one mean over both by the weights of the classes.

    Only regions that are `seen`, `(N, C)` or `(N, 1)`, enter the mean; None: all do.
    """
    xp, shape = inputs.xp, tuple(losses.shape)
    if weight is not None:
        weight = xp.broadcast_to(xp.expand_dims(weight, axis=0), shape)
        losses = losses * weight
    kept = None if seen is None else xp.broadcast_to(seen, shape)
    return positions(inputs, losses, weight_of(inputs, weight, kept, shape), reduction)

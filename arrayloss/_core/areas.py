"""What the losses of regions share: the overlap, the predicted and the true area of each class in each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from arrayloss._core import reduce
from arrayloss._core.classes import open_probabilities
from arrayloss._core.inputs import Inputs
from arrayloss._machines.formula import AREAS, Array, Formula, Namespace, above


@dataclass(frozen=True)
class Areas:
    """Areas of each class in each image, `(N, C)`; of the whole batch `(1, C)`."""

    inputs: Inputs
    activation: str | None
    batch: bool
    include_background: bool
    squared: bool
    overlap: Array
    predicted: Array
    true: Array

    def errors(self) -> tuple[Array, Array]:
        """Return the areas of the false positives and of the false negatives."""
        if self.squared:
            false_positive, false_negative = _sums(self.inputs, self.activation, self.batch, _ERRORS)
            return false_positive, false_negative
        return self.predicted - self.overlap, -(self.overlap - self.true)

    def power(self, losses: Array, exponent: float) -> Array:
        """Return losses to a power, with gradient 0 where they are 0, or less by rounding."""
        where_or, xp = self.inputs.kernels.where_or, self.inputs.xp
        some = ~(losses <= 0.0)
        return where_or(xp, some, where_or(xp, some, losses, 1.0) ** exponent, 0.0)

    def inverse_areas(self, kind: str) -> Array:
        """Return the weights of the generalized Dice loss, 0 for a background that does not count."""
        where_or, xp = self.inputs.kernels.where_or, self.inputs.xp
        true = self.inputs.kernels.constant(self.true)
        there = true > 0.0
        area = where_or(xp, there, true, 1.0)
        weights = {"uniform": xp.ones_like(area), "simple": 1.0 / area, "square": 1.0 / (area * area)}[kind]
        counted = self.inputs.counted(self.include_background)
        counted = None if counted is None else xp.expand_dims(counted, axis=0)
        weights = where_or(xp, there, weights, 0.0) * (1.0 if counted is None else counted)
        largest = xp.broadcast_to(xp.max(weights, axis=1, keepdims=True), weights.shape)
        weights = xp.where(there, weights, largest)
        return weights if counted is None else weights * counted

    def reduce(self, losses: Array, weight: Any, reduction: str) -> Any:
        """Reduce losses `(N, C)` of regions, with the weights of their classes."""
        weight = self.inputs.counted_weight(weight, self.include_background)
        return reduce.regions(self._rows(), losses, weight, self._seen(), reduction)

    def reduce_images(self, losses: Array, reduction: str) -> Any:
        """Reduce losses `(N,)` of images."""
        seen = self._seen()
        if seen is not None:
            # An image of which the background alone is valid holds nothing, where that does not count.
            first = 0 if self.include_background or seen.shape[1] == 1 else 1
            seen = self.inputs.xp.any(seen[:, first:], axis=1)
        weight = reduce.weight_of(self.inputs, None, seen, tuple(losses.shape))
        return reduce.positions(self._rows(), losses, weight, reduction)

    def _seen(self) -> Array | None:
        """Return which regions hold something valid, `(N, C)` or the same for all classes `(N, 1)`; None: all do."""
        xp = self.inputs.xp
        if self.inputs.valid is None:
            return None
        if self.inputs.labels is not None:  # each valid position is in the true area of one class
            return xp.sum(self.true, axis=1, keepdims=True) > 0.0
        seen = self.inputs.seen
        return xp.any(seen, axis=0, keepdims=True) if self.batch else seen

    def _rows(self) -> Inputs:
        """Return the inputs as their reduction sees them: a batch taken as one image has no batch axis."""
        return replace(self.inputs, batched=False) if self.batch else self.inputs


def open_areas(
    function: str,
    logits: Array,
    target: Array,
    axis: int,
    ignore_index: int | None,
    activation: str | None,
    batch: bool,
    include_background: bool,
    squared: bool,
) -> Areas:
    """Check the inputs of a loss of regions, and return the areas."""
    inputs = open_probabilities(function, logits, target, axis, ignore_index, activation)
    return areas_of(inputs, activation, batch, include_background, squared)


def areas_of(inputs: Inputs, activation: str | None, batch: bool, include_background: bool, squared: bool) -> Areas:
    """Return the areas of clean inputs."""
    if inputs.classes == 1 and not include_background:
        raise ValueError(
            f"{inputs.function}: include_background is False with a single class, expected True or more classes"
        )
    sums = _sums(inputs, activation, batch, _SQUARES if squared else AREAS)
    return Areas(inputs, activation, batch, include_background, squared, *sums)


def _sums(inputs: Inputs, activation: str | None, batch: bool, formula: Formula) -> list[Array]:
    """Return the sums of what a formula gives the entries, over each image or the batch."""
    xp = inputs.xp
    sums = inputs.kernels.regions(xp, inputs.logits, inputs.aim, inputs.valid, activation, formula)
    each = [sums[i, ...] for i in range(sums.shape[0])]
    return [xp.sum(x, axis=0, keepdims=True) for x in each] if batch else each


def _squares(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array, Array]:
    return p * t, p * p, t * t


def _squares_slopes(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array, Array]:
    return t, 2.0 * p, xp.zeros_like(p)


def _errors(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array]:
    excess, lack = above(xp, p - t), above(xp, t - p)
    return excess * excess, lack * lack


def _errors_slopes(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array]:
    return 2.0 * above(xp, p - t), -2.0 * above(xp, t - p)


#: Regions: the areas of AREAS of squares
_SQUARES = Formula(_squares, _squares_slopes)
#: Regions: the squares of what is too much and of what is missing
_ERRORS = Formula(_errors, _errors_slopes)

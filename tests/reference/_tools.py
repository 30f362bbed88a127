"""What the references share: reading the inputs, small mathematics, reductions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Position = tuple[int, ...]
Result = float | np.ndarray | tuple[float, float]


def class_axis(ndim: int, axis: int) -> int:
    """The class axis as a non-negative number; unbatched logits (C,) have only the one axis."""
    return 0 if ndim == 1 else axis % ndim


def classes_last(array: Any, axis: int) -> np.ndarray:
    """As float64 with the class axis moved to the end, so that array[position] is the vector over the classes."""
    array = np.asarray(array).astype(np.float64)
    return np.moveaxis(array, class_axis(array.ndim, axis), -1)


def are_labels(target: Any) -> bool:
    """Integer and bool targets are labels, everything else is probabilities."""
    return np.asarray(target).dtype.kind in "iub"


def label_map(target: Any, z: np.ndarray, axis: int) -> np.ndarray:
    """The target in the shape of the positions: a class axis of length 1 is dropped. `z` has its classes last."""
    labels = np.asarray(target)
    if labels.ndim == z.ndim:
        labels = np.squeeze(labels, axis=class_axis(z.ndim, axis))
    if labels.shape != z.shape[:-1]:
        raise ValueError(f"target of shape {np.shape(target)} does not fit positions {z.shape[:-1]}")
    return labels


def checked(label: int, classes: int) -> int:
    if not 0 <= label < classes:
        raise ValueError(f"label {label} is outside [0, {classes})")
    return label


def labelled_pixels(z: np.ndarray, target: Any, ignore_index: int | None, axis: int) -> Iterator[tuple[Position, int]]:
    """(position, label) of every valid pixel; logits at ignored pixels are never looked at."""
    labels = label_map(target, z, axis)
    for position in np.ndindex(labels.shape):
        label = int(labels[position])
        if label != ignore_index:
            yield position, checked(label, z.shape[-1])


def image_index(position: Position) -> int:
    """The batch index of a position; the single position of unbatched logits belongs to image 0."""
    return position[0] if position else 0


def image_count(z: np.ndarray) -> int:
    return z.shape[0] if z.ndim > 1 else 1


def class_weights(weight: Any, classes: int) -> list[float]:
    if weight is None:
        return [1.0] * classes
    weights = [float(w) for w in np.asarray(weight)]
    if len(weights) != classes:
        raise ValueError(f"{len(weights)} class weights for {classes} classes")
    return weights


def log_softmax(z: np.ndarray) -> list[float]:
    largest = max(float(x) for x in z)
    log_sum = math.log(math.fsum(math.exp(float(x) - largest) for x in z))
    return [float(x) - largest - log_sum for x in z]


def softmax(z: np.ndarray) -> list[float]:
    largest = max(float(x) for x in z)
    exponentials = [math.exp(float(x) - largest) for x in z]
    total = math.fsum(exponentials)
    return [e / total for e in exponentials]


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def times(factor: float, value: float) -> float:
    """factor * value with 0 * inf = 0: what has no weight does not count, however large it is."""
    return 0.0 if factor == 0 else factor * value


def ratio(total: float, weight: float) -> float:
    """total / weight, 0 where there is nothing to divide by."""
    return 0.0 if weight == 0 else total / weight


def k_largest(values: dict[Position, float], k: int) -> set[Position]:
    """Where the k largest values stand, with all that are tied with the k-th; all, where there are no more than k."""
    if k <= 0:
        return set()
    if k >= len(values):
        return set(values)
    kth = sorted(values.values(), reverse=True)[k - 1]
    return {position for position, value in values.items() if value >= kth}


def reduce(shape: tuple[int, ...], values: dict[Position, float], weight: float, reduction: str) -> Result:
    """One reduction for all pixel losses: `values` at the positions that count, `weight` is what "mean" divides by."""
    total = math.fsum(values.values())
    if reduction == "mean":
        return ratio(total, weight)
    if reduction == "sum":
        return total
    if reduction == "parts":
        return total, float(weight)
    if reduction == "none":
        array = np.zeros(shape, dtype=np.float64)
        for position, value in values.items():
            array[position] = value
        return array
    raise ValueError(f"unknown reduction {reduction!r}")


def no_parts(reduction: str) -> None:
    if reduction == "parts":
        raise ValueError('reduction "parts" is for losses whose mean is one sum over another')

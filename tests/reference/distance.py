"""Losses of the distance to the true boundary, and the distances, by all pairs of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    checked,
    class_weights,
    classes_last,
    image_count,
    label_map,
    reduce,
    softmax,
)


def _apart(a: Position, b: Position, spacing: list[float]) -> float:
    return math.sqrt(math.fsum((s * (i - j)) ** 2 for s, i, j in zip(spacing, a, b, strict=True)))


def to_boundary(inside: Any, valid: Any, *, signed: bool = True, spacing: Any = None) -> np.ndarray:
    """Distance of each valid pixel of one image to the nearest one on the other side of a region's boundary.

    With `signed`, that of a pixel inside less a step, times -1. 0 where one of the sides is empty.
    """
    inside, valid = np.asarray(inside), np.asarray(valid)
    steps = [1.0] * inside.ndim if spacing is None else [float(s) for s in spacing]
    pixels = [position for position in np.ndindex(inside.shape) if valid[position]]
    sides = {side: [q for q in pixels if bool(inside[q]) is side] for side in (True, False)}
    found = np.zeros(inside.shape)
    if not (sides[True] and sides[False]):
        return found
    for q in pixels:
        here = bool(inside[q])
        nearest = min(_apart(q, other, steps) for other in sides[not here])
        found[q] = min(steps) - nearest if here and signed else nearest
    return found


def distance_map(
    target: Any,
    classes: int,
    *,
    ignore_index: int | None = 255,
    signed: bool = True,
    spacing: Any = None,
) -> np.ndarray:
    """The distances (N, C, *S) of label maps (N, *S)."""
    labels = np.asarray(target).astype(np.int64)
    valid = np.ones(labels.shape, dtype=bool) if ignore_index is None else labels != ignore_index
    for label in labels[valid]:
        checked(int(label), classes)
    return np.stack(
        [
            np.stack([to_boundary(image == c, v, signed=signed, spacing=spacing) for c in range(classes)])
            for image, v in zip(labels, valid, strict=True)
        ]
    )


def prediction_distance(p: Any, valid: Any) -> np.ndarray:
    """The unsigned distances (N, C, *S) to the boundaries of the regions where p (N, C, *S) is above 1/2."""
    return np.stack(
        [
            np.stack([to_boundary(one > 0.5, v, signed=False) for one in image])
            for image, v in zip(np.asarray(p), np.asarray(valid), strict=True)
        ]
    )


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def probabilities(z: np.ndarray, activation: str | None) -> list[float]:
    """The probabilities of one position."""
    if activation == "softmax":
        return softmax(z)
    return [float(x) if activation is None else _sigmoid(float(x)) for x in z]


def _true_classes(z: np.ndarray, target: Any, ignore_index: int | None, axis: int) -> Iterator[tuple[Position, int]]:
    """(position, index on the class axis) of every valid pixel: a single class stands for label 1, and -1 for none."""
    labels, classes = label_map(target, z, axis), z.shape[-1]
    for position in np.ndindex(labels.shape):
        label = int(labels[position])
        if label != ignore_index:
            yield position, checked(label, classes) if classes > 1 else checked(label, 2) - 1


def _reduced(
    logits: Any,
    target: Any,
    loss: Callable[[Position, list[float], int, list[float]], float],
    options: dict[str, Any],
) -> Result:
    """Reduce loss(position, probabilities, true class, weights of the classes) over the valid positions."""
    axis = options["axis"]
    z = classes_last(logits, axis)
    w = class_weights(options["weight"], z.shape[-1])
    if not options["include_background"]:
        w[0] = 0.0
    values = {
        position: loss(position, probabilities(z[position], options["activation"]), y, w)
        for position, y in _true_classes(z, target, options["ignore_index"], axis)
    }
    return reduce(z.shape[:-1], values, len(values) * math.fsum(w), options["reduction"])


def _of_target(logits: Any, target: Any, *, signed: bool, ignore_index: int | None, axis: int) -> np.ndarray:
    """The distances of the target, the classes last."""
    z = classes_last(logits, axis)
    labels = label_map(target, z, axis).reshape((image_count(z), *z.shape[1:-1]))
    classes = z.shape[-1]
    found = distance_map(labels, max(classes, 2), ignore_index=ignore_index, signed=signed)
    return np.moveaxis(found[:, -classes:], 1, -1).reshape(z.shape)


def boundary_loss(
    logits: Any,
    target: Any,
    *,
    distance: Any = None,
    ignore_index: int | None = 255,
    axis: int = 1,
    **options: Any,
) -> Result:
    """Sum over the classes of w_c phi_c p_c."""
    if distance is None:
        phi = _of_target(logits, target, signed=True, ignore_index=ignore_index, axis=axis)
    else:
        phi = classes_last(distance, axis)

    def loss(position: Position, p: list[float], y: int, w: list[float]) -> float:
        return math.fsum(w[c] * float(phi[position][c]) * p[c] for c in range(len(p)))

    return _reduced(logits, target, loss, {**options, "ignore_index": ignore_index, "axis": axis})


def hausdorff_dt_loss(
    logits: Any,
    target: Any,
    *,
    alpha: float = 2.0,
    target_distance: Any = None,
    prediction_distance: Any,
    ignore_index: int | None = 255,
    axis: int = 1,
    **options: Any,
) -> Result:
    """Sum over the classes of w_c (p_c - t_c)^2 (d_p^alpha + d_t^alpha)."""
    if target_distance is None:
        true = _of_target(logits, target, signed=False, ignore_index=ignore_index, axis=axis)
    else:
        true = classes_last(target_distance, axis)
    predicted = classes_last(np.broadcast_to(prediction_distance, np.shape(logits)), axis)

    def loss(position: Position, p: list[float], y: int, w: list[float]) -> float:
        return math.fsum(
            w[c] * (p[c] - (c == y)) ** 2 * (float(predicted[position][c]) ** alpha + float(true[position][c]) ** alpha)
            for c in range(len(p))
        )

    return _reduced(logits, target, loss, {**options, "ignore_index": ignore_index, "axis": axis})

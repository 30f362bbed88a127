"""Losses of point, scene and detail heads."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    checked,
    class_axis,
    class_weights,
    classes_last,
    image_count,
    label_map,
    log_softmax,
    no_parts,
    ratio,
    reduce,
    softplus,
    times,
)


def _pixel_of(point: np.ndarray, space: tuple[int, ...]) -> Position:
    """The pixel a point (x, y, ...) in [0, 1] lies in, the last one where a coordinate is 1."""
    if not all(0 <= float(x) <= 1 for x in point):
        raise ValueError(f"point {point} is outside [0, 1]")
    backwards = [float(x) for x in point][::-1]
    return tuple(min(math.floor(x * size), size - 1) for x, size in zip(backwards, space, strict=True))


def point_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_y (-log p_y) at each point, y being the label of the pixel that the point lies in."""
    z = classes_last(logits[0], axis)  # (N, P, C)
    points, labels = np.asarray(logits[1]), np.asarray(target)
    if labels.ndim == points.shape[-1] + 2:
        labels = np.squeeze(labels, axis=1)
    w = class_weights(weight, z.shape[-1])
    for label in labels.reshape(-1):
        if int(label) != ignore_index:
            checked(int(label), z.shape[-1])
    losses: dict[Position, float] = {}
    divisor = 0.0
    for n, p in np.ndindex(z.shape[:-1]):
        y = int(labels[(n, *_pixel_of(points[n, p], labels.shape[1:]))])
        if y != ignore_index:
            losses[n, p] = times(w[y], -log_softmax(z[n, p])[y])
            divisor += w[y]
    return reduce(z.shape[:-1], losses, divisor, reduction)


def se_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_c times the binary cross entropy of the presence of each class, in images with a valid pixel."""
    x = classes_last(logits, axis)
    classes, images = x.shape[-1], image_count(x)
    scores = x.reshape((images, classes))
    labels = np.asarray(target).reshape((images, -1))
    w = class_weights(weight, classes)
    losses: dict[Position, float] = {}
    seen = 0
    for n in range(images):
        present = {checked(int(y), classes) for y in labels[n] if int(y) != ignore_index}
        seen += bool(present)
        for c in range(classes) if present else ():
            score = float(scores[n, c])
            losses[n, c] = times(w[c], softplus(-score if c in present else score))
    value = reduce((images, classes), losses, seen * classes, reduction)
    if not isinstance(value, np.ndarray):
        return value
    return np.moveaxis(value.reshape(x.shape), -1, class_axis(x.ndim, axis))


def _response(image: np.ndarray, row: int, column: int, ignore_index: int | None) -> int:
    """The Laplacian of labels at a pixel: its differences from eight neighbours, 0 beyond, none from an ignored one."""
    own = int(image[row, column])
    if own == ignore_index:
        return 0
    total = 0
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = row + down, column + right
            if not (0 <= r < image.shape[0] and 0 <= c < image.shape[1]):
                total += own
            elif int(image[r, c]) != ignore_index:
                total += own - int(image[r, c])
    return total


def _sampled(i: int, size: int, stride: int) -> int:
    """Which pixel along an axis the map of a stride, enlarged by the nearest, shows at i."""
    small = math.ceil(size / stride)
    return math.floor(Fraction(i * small, size)) * stride


def detail_targets(target: Any, *, threshold: float = 0.1, ignore_index: int | None = 255) -> np.ndarray:
    """1 at details, 0 elsewhere, ignore_index at ignored pixels; target (N, H, W)."""
    labels = np.asarray(target)
    details = np.zeros(labels.shape, dtype=np.int64)
    for n, row, column in np.ndindex(labels.shape):
        if int(labels[n, row, column]) == ignore_index:
            details[n, row, column] = ignore_index
            continue
        fused = Fraction(0)
        for stride, share in ((1, Fraction(6, 10)), (2, Fraction(3, 10)), (4, Fraction(1, 10))):
            r, c = (_sampled(i, size, stride) for i, size in zip((row, column), labels.shape[1:], strict=True))
            fused += share * (_response(labels[n], r, c, ignore_index) > 0)
        # As the decimal that it is written as: 0.1 is not exceeded by a tenth.
        details[n, row, column] = int(fused > Fraction(str(threshold)))
    return details


def detail_aggregate_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    threshold: float = 0.1,
    smooth: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Mean over pixels of the binary cross entropy of detail, and over images with any of Dice with squares."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    labels = label_map(target, z, axis)
    details = detail_targets(labels, threshold=threshold, ignore_index=ignore_index)
    entropies: list[list[float]] = []
    dice: list[float] = []
    for n in range(len(labels)):
        valid = [place for place in np.ndindex(labels.shape[1:]) if int(labels[(n, *place)]) != ignore_index]
        x = [float(z[(n, *place, 0)]) for place in valid]
        g = [int(details[(n, *place)]) for place in valid]
        entropies.append([softplus(-score if t else score) for score, t in zip(x, g, strict=True)])
        p = [math.exp(-softplus(-score)) for score in x]
        above = 2 * math.fsum(a for a, t in zip(p, g, strict=True) if t) + smooth
        below = math.fsum(a * a for a in p) + sum(g) + smooth
        dice.append(0.0 if below == 0 else 1 - above / below)
    if reduction == "mean":
        every = [value for image in entropies for value in image]
        seen = [d for d, image in zip(dice, entropies, strict=True) if image]
        return ratio(math.fsum(every), len(every)) + ratio(math.fsum(seen), len(seen))
    each = {(n,): ratio(math.fsum(image), len(image)) + dice[n] for n, image in enumerate(entropies)}
    return reduce((len(dice),), each, 0.0, reduction)

"""Losses of the boundaries between classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    class_axis,
    classes_last,
    labelled_pixels,
    log_softmax,
    no_parts,
    ratio,
    reduce,
    softmax,
    times,
)


def relax_boundary_loss(
    logits: Any,
    target: Any,
    *,
    border: int = 1,
    calculate_weights: bool = False,
    upper_bound: float = 1.0,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """-a log(sum of p_c over D), D = the classes of the valid pixels in the window; images only."""
    z = classes_last(logits, axis)
    if z.ndim != 4:
        raise ValueError(f"images are needed, logits have shape {np.shape(logits)}")
    images, height, width, classes = z.shape
    labels = dict(labelled_pixels(z, target, ignore_index, axis))

    window_classes: dict[Position, set[int]] = {}
    for n, row, column in labels:
        found = set()
        for r in range(max(row - border, 0), min(row + border + 1, height)):
            for c in range(max(column - border, 0), min(column + border + 1, width)):
                if (n, r, c) in labels:
                    found.add(labels[n, r, c])
        window_classes[n, row, column] = found

    class_weight = [[1.0] * classes for _ in range(images)]
    if calculate_weights:
        for n in range(images):
            counts = [0] * classes
            for position, found in window_classes.items():
                if position[0] == n:
                    for c in found:
                        counts[c] += 1
            for c in range(classes):
                share = ratio(counts[c], sum(counts))
                class_weight[n][c] = 1.0 + (upper_bound * (1.0 - share) if share > 0 else 0.0)

    losses: dict[Position, float] = {}
    weights: dict[Position, float] = {}
    for position, found in window_classes.items():
        log_p = [log_softmax(z[position])[c] for c in sorted(found)]
        largest = max(log_p)
        log_of_sum = largest + math.log(math.fsum(math.exp(x - largest) for x in log_p))
        a = math.fsum(class_weight[position[0]][c] for c in found) / len(found)
        losses[position] = times(a, -log_of_sum)
        weights[position] = a
    return reduce(z.shape[:-1], losses, math.fsum(weights.values()), reduction)


def _mirrored(i: int, length: int) -> int:
    """Index i of a row continued symmetrically: ... c b a | a b c | c b a ..."""
    i %= 2 * length
    return i if i < length else 2 * length - 1 - i


def _gradient_magnitude(maps: np.ndarray) -> np.ndarray:
    """mag of the contract for maps (N, H, W, C): smooth, differentiate, magnitude, over its largest value."""
    triangle = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    images, height, width, classes = maps.shape
    magnitude = np.zeros(maps.shape)
    for n in range(images):
        for c in range(classes):
            along_rows = np.zeros((height, width))
            for i in range(height):
                for j in range(width):
                    along_rows[i, j] = math.fsum(
                        triangle[t] / 25 * maps[n, i, _mirrored(j + t - 4, width), c] for t in range(9)
                    )
            smooth = np.zeros((height + 2, width + 2))  # with the frame of zeros that the differences see
            for i in range(height):
                for j in range(width):
                    smooth[i + 1, j + 1] = math.fsum(
                        triangle[t] / 25 * along_rows[_mirrored(i + t - 4, height), j] for t in range(9)
                    )
            for i in range(height):
                for j in range(width):
                    gx = (smooth[i + 1, j + 2] - smooth[i + 1, j]) / 2
                    gy = (smooth[i + 2, j + 1] - smooth[i, j + 1]) / 2
                    magnitude[n, i, j, c] = math.sqrt(gx * gx + gy * gy + 1e-6)
    largest = max(float(x) for x in magnitude.flat)
    for entry in np.ndindex(magnitude.shape):
        magnitude[entry] /= largest
    return magnitude


def dual_task_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    tau: float = 0.5,
    reduction: str = "mean",
    axis: int = 1,
    noise: Any = None,
) -> Result:
    """|mag(softmax((logits + noise) / tau)) - mag(one-hot target)|; no noise where none is given; images only."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    if z.ndim != 4 or min(z.shape[1:3]) < 3:
        raise ValueError(f"images of at least 3 x 3 are needed, logits have shape {np.shape(logits)}")
    gumbel = np.zeros(z.shape) if noise is None or np.ndim(noise) == 0 else classes_last(noise, axis)
    labels = dict(labelled_pixels(z, target, ignore_index, axis))

    prediction, truth = np.zeros(z.shape), np.zeros(z.shape)
    for position in np.ndindex(z.shape[:-1]):
        ignored = position not in labels
        scores = np.zeros(z.shape[-1]) if ignored else z[position]
        prediction[position] = softmax((scores + gumbel[position]) / tau)
        truth[position][0 if ignored else labels[position]] = 1.0
    g, h = _gradient_magnitude(prediction), _gradient_magnitude(truth)

    losses: dict[Position, float] = {}
    for position in labels:
        for c in range(z.shape[-1]):
            losses[*position, c] = abs(float(g[position][c]) - float(h[position][c]))
    value = reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(value, -1, class_axis(z.ndim, axis)) if isinstance(value, np.ndarray) else value

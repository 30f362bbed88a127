"""Losses of the relations between pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    classes_last,
    labelled_pixels,
    no_parts,
    ratio,
    reduce,
    softplus,
    times,
)


def _sigmoid(x: float) -> float:
    return math.exp(-softplus(-x))


def _cells(image: np.ndarray, stride: int, pool: str) -> np.ndarray:
    """The mean or the largest value of each whole cell of an image (H, W)."""
    cells = np.zeros((image.shape[0] // stride, image.shape[1] // stride))
    for i, j in np.ndindex(cells.shape):
        values = [
            float(image[r, c]) for r in range(i * stride, (i + 1) * stride) for c in range(j * stride, (j + 1) * stride)
        ]
        cells[i, j] = max(values) if pool == "max" else math.fsum(values) / len(values)
    return cells


def _neighbourhoods(cells: np.ndarray, radius: int) -> list[np.ndarray]:
    """The cells of every window, one vector after the other."""
    height, width = cells.shape
    return [
        cells[i : i + radius, j : j + radius].ravel()
        for i in range(height - radius + 1)
        for j in range(width - radius + 1)
    ]


def _log_determinant(true: list[np.ndarray], predicted: list[np.ndarray]) -> float:
    """log det (M + alpha I) / 2d as it is written: two covariances, an inverse and a difference."""
    y, p = np.asarray(true), np.asarray(predicted)
    n, d = y.shape
    y, p = y - y.mean(axis=0), p - p.mean(axis=0)
    alpha = 5e-4 / n * np.eye(d)
    cross = y.T @ p / n
    left = y.T @ y / n - cross @ np.linalg.solve(p.T @ p / n + alpha, cross.T)
    return float(np.linalg.slogdet(left + alpha)[1]) / (2 * d)


def rmi_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    radius: int = 3,
    pool: str = "avg",
    stride: int = 3,
    bce_weight: float = 0.5,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """lambda BCE + (1 - lambda) log det (M + alpha I) / 2d, of each class in each image."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    images, height, width, classes = z.shape
    truth, valid = np.zeros(z.shape), np.zeros(z.shape[:-1], dtype=bool)
    if are_labels(target):
        for position, label in labelled_pixels(z, target, ignore_index, axis):
            truth[position][label], valid[position] = 1.0, True
    else:
        truth, valid = classes_last(target, axis), np.ones(z.shape[:-1], dtype=bool)

    losses: dict[Position, float] = {}
    # The means over classes and images of the two terms: over those with a valid pixel, and those with a window.
    entropies: list[float] = []
    determinants: list[float] = []
    for n in range(images):
        pixels = [(i, j) for i in range(height) for j in range(width) if valid[n, i, j]]
        full = _neighbourhoods(_cells(~valid[n], stride, "max"), radius)
        keep = [not bool(window.any()) for window in full]
        for c in range(classes):
            losses[n, c] = 0.0
            if pixels:
                each = [
                    softplus(float(z[n, i, j, c])) - times(float(truth[n, i, j, c]), float(z[n, i, j, c]))
                    for i, j in pixels
                ]
                entropies.append(times(bce_weight, math.fsum(each) / len(each)))
                losses[n, c] += entropies[-1]
            if any(keep):
                p = np.zeros((height, width))
                for i, j in pixels:
                    p[i, j] = _sigmoid(float(z[n, i, j, c]))
                vectors = [
                    [w for w, kept in zip(_neighbourhoods(_cells(x, stride, pool), radius), keep, strict=True) if kept]
                    for x in (truth[n, :, :, c], p)
                ]
                determinants.append((1.0 - bce_weight) * _log_determinant(*vectors))
                losses[n, c] += determinants[-1]
    if reduction == "mean":
        return sum(ratio(math.fsum(each), len(each)) for each in (entropies, determinants))
    return reduce((images, classes), losses, 0.0, reduction)


def _share(hard: int, easy: int, views: int) -> tuple[int, int]:
    """How many hard and easy pixels are anchors: half each, and what one kind lacks from the other."""
    kept_hard, kept_easy = views // 2, views - views // 2
    if hard < kept_hard:
        kept_hard, kept_easy = hard, views - hard
    elif easy < kept_easy:
        kept_hard, kept_easy = views - easy, easy
    return kept_hard, kept_easy


def pixel_contrast_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    max_samples: int = 1024,
    max_views: int = 100,
    noise: Any = 0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """InfoNCE over anchors of each class and image, half of them hard; positives of one class, self excluded."""
    no_parts(reduction)
    embedding, scores = (classes_last(x, axis) for x in logits)
    positions = embedding.shape[:-1]
    numbers = np.zeros(positions) if np.ndim(noise) == 0 and np.size(noise) == 1 else np.asarray(noise)
    numbers = numbers.reshape(positions)

    pixels: dict[tuple[int, int], list[Position]] = {}
    for position, label in labelled_pixels(scores, target, ignore_index, axis):
        pixels.setdefault((position[0] if position else 0, label), []).append(position)
    pixels = {pair: found for pair, found in pixels.items() if len(found) >= max_views}
    views = max(1, min(max_views, max_samples // max(len(pixels), 1)))

    anchors: list[tuple[Position, int]] = []
    for (_, label), found in pixels.items():
        ranked = sorted(found, key=lambda position: (float(numbers[position]), position))
        hard = [q for q in ranked if float(scores[q][label]) < float(scores[q].max())]
        easy = [q for q in ranked if q not in hard]
        kept_hard, kept_easy = _share(len(hard), len(easy), views)
        anchors += [(q, label) for q in hard[:kept_hard] + easy[:kept_easy]]

    unit = {}
    for q, _ in anchors:
        length = math.sqrt(math.fsum(float(x) ** 2 for x in embedding[q]))
        unit[q] = embedding[q] / length if length > 1e-6 else np.zeros(embedding.shape[-1])
    losses: dict[Position, float] = {}
    for i, label in anchors:
        near = {j: float(unit[i] @ unit[j]) / temperature for j, _ in anchors if j != i}
        positives = [near[j] for j, other in anchors if other == label and j != i]
        negatives = [near[j] for j, other in anchors if other != label]
        if positives:
            each = []
            for s in positives:
                top = max([s, *negatives])
                each.append(top + math.log(math.fsum(math.exp(x - top) for x in [s, *negatives])) - s)
            losses[i] = temperature / base_temperature * math.fsum(each) / len(each)
    return reduce(positions, losses, len(losses), reduction)

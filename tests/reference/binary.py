"""Binary cross entropy, and edge maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    checked,
    class_axis,
    class_weights,
    classes_last,
    image_count,
    label_map,
    ratio,
    reduce,
    softplus,
    times,
)


def _is_edge(image: np.ndarray, row: int, column: int, radius: int, ignore_index: int | None) -> bool:
    """Does any place within Euclidean distance `radius` lie beyond the image or hold another, not ignored, label?"""
    height, width = image.shape
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            if math.hypot(down, right) > radius:
                continue
            r, c = row + down, column + right
            if not (0 <= r < height and 0 <= c < width):
                return True
            other = int(image[r, c])
            if other != ignore_index and other != int(image[row, column]):
                return True
    return False


def label_edges(target: Any, *, radius: int = 2, ignore_index: int | None = 255) -> np.ndarray:
    """1 at edges, 0 elsewhere, ignore_index at ignored pixels; target (N, H, W)."""
    labels = np.asarray(target)
    edges = np.zeros(labels.shape, dtype=np.int64)
    for n, row, column in np.ndindex(labels.shape):
        if int(labels[n, row, column]) == ignore_index:
            edges[n, row, column] = ignore_index
        else:
            edges[n, row, column] = int(_is_edge(labels[n], row, column, radius, ignore_index))
    return edges


def binary_target(
    target: Any, z: np.ndarray, ignore_index: int | None, edge_label: bool, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """(y, valid), both in the shape of the logits with the classes last."""
    classes = z.shape[-1]
    y = np.zeros(z.shape, dtype=np.float64)
    valid = np.zeros(z.shape, dtype=bool)

    same_shape = (
        np.ndim(target) == z.ndim and np.moveaxis(np.asarray(target), class_axis(z.ndim, axis), -1).shape == z.shape
    )
    if same_shape and not edge_label:  # an entry of its own for every class
        entries = np.moveaxis(np.asarray(target), class_axis(z.ndim, axis), -1)
        for entry in np.ndindex(z.shape):
            if entries[entry].item() != ignore_index:
                valid[entry] = True
                y[entry] = entries[entry].item()
    else:  # one label (or, for a single class, one number) for every position
        labels = label_map(target, z, axis)
        given = labels
        if edge_label:
            labels = label_edges(given, ignore_index=ignore_index)
        elif classes > 1 and not are_labels(target):
            raise ValueError("a floating target must have the shape of the logits")
        for position in np.ndindex(labels.shape):
            if given[position].item() == ignore_index:
                continue
            for c in range(classes):
                valid[(*position, c)] = True
                if classes == 1:
                    y[(*position, c)] = labels[position].item()
                else:
                    y[(*position, c)] = float(checked(int(labels[position]), classes) == c)
    for entry in np.ndindex(z.shape):
        if valid[entry] and not 0 <= y[entry] <= 1:
            raise ValueError(f"target {y[entry]} is outside [0, 1]")
    return y, valid


def bce_loss(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    ignore_index: int | None = 255,
    edge_label: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w [pos_weight y softplus(-x) + (1-y) softplus(x)], one entry for every logit."""
    z = classes_last(logits, axis)
    classes, at = z.shape[-1], class_axis(z.ndim, axis)
    y, valid = binary_target(target, z, ignore_index, edge_label, axis)

    positives = sum(1 for entry in np.ndindex(z.shape) if valid[entry] and y[entry] == 1)
    negatives = sum(1 for entry in np.ndindex(z.shape) if valid[entry] and y[entry] == 0)
    dynamic_positive = ratio(2 * negatives, positives + negatives)
    dynamic_negative = ratio(2 * positives, positives + negatives)

    w = np.ones(z.shape)
    if isinstance(weight, str):
        for entry in np.ndindex(z.shape):
            w[entry] = y[entry] * dynamic_positive + (1 - y[entry]) * dynamic_negative
    elif weight is not None:
        given = np.asarray(weight).astype(np.float64)
        if given.ndim == z.ndim:
            w = np.moveaxis(np.broadcast_to(given, np.shape(logits)), at, -1)
        elif given.shape == (image_count(z),):
            for entry in np.ndindex(z.shape):
                w[entry] = given[entry[0]]
        else:
            raise ValueError(f"weight of shape {given.shape} for logits of shape {np.shape(logits)}")

    if isinstance(pos_weight, str):
        positive_weights = [dynamic_positive] * classes
    elif pos_weight is None or np.ndim(pos_weight) == 0:
        positive_weights = [1.0 if pos_weight is None else float(pos_weight)] * classes
    else:
        positive_weights = class_weights(pos_weight, classes)

    losses: dict[Position, float] = {}
    for entry in np.ndindex(z.shape):
        if valid[entry]:
            x, t = float(z[entry]), float(y[entry])
            as_positive = times(positive_weights[entry[-1]] * t, softplus(-x))
            as_negative = times(1 - t, softplus(x))
            losses[entry] = times(float(w[entry]), as_positive + as_negative)
    value = reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(value, -1, at) if isinstance(value, np.ndarray) else value

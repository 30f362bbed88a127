"""Cross entropy on the hardest pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    class_weights,
    classes_last,
    image_count,
    image_index,
    k_largest,
    labelled_pixels,
    log_softmax,
    no_parts,
    ratio,
    reduce,
    softmax,
    times,
)


def bootstrapped_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    min_K: int,
    loss_th: float,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Per image the losses above loss_th, at least the min_K largest; mean of the means of images with any."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    w = class_weights(weight, z.shape[-1])
    images = image_count(z)
    losses: list[dict[Position, float]] = [{} for _ in range(images)]
    weights: dict[Position, float] = {}
    for position, y in labelled_pixels(z, target, ignore_index, axis):
        losses[image_index(position)][position] = times(w[y], -log_softmax(z[position])[y])
        weights[position] = w[y]

    all_kept: dict[Position, float] = {}
    means = []
    for image_losses in losses:
        descending = sorted(image_losses.values(), reverse=True)
        if len(descending) > min_K and descending[min_K] > loss_th:
            kept = {position for position, loss in image_losses.items() if loss > loss_th}
        else:
            kept = k_largest(image_losses, min_K)
        total = math.fsum(image_losses[position] for position in kept)
        if image_losses:
            means.append(ratio(total, math.fsum(weights[position] for position in kept)))
        all_kept.update({position: image_losses[position] for position in kept})
    if reduction == "mean":
        return ratio(math.fsum(means), len(means))
    return reduce(z.shape[:-1], all_kept, images, reduction)


def _hard_pixels(p: dict[Position, float], log_p: dict[Position, float], thresh: float, min_kept: int) -> set[Position]:
    """The pixels with p_y < thresh or p_y <= the min_kept-th smallest p_y; all where min_kept >= their number.

    log p_y ranks as p_y does, and does not run out of digits at 0.
    """
    if min_kept >= len(p):
        return set(p)
    below = {position for position, probability in p.items() if probability < thresh}
    return below | k_largest({position: -value for position, value in log_p.items()}, min_kept)


def ohem_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    thresh: float = 0.7,
    min_kept: int = 10000,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_y ce over the hard pixels; the choice looks at p_y, not at the weights."""
    z = classes_last(logits, axis)
    w = class_weights(weight, z.shape[-1])
    p, log_p, losses, weights = {}, {}, {}, {}
    for position, y in labelled_pixels(z, target, ignore_index, axis):
        p[position] = softmax(z[position])[y]
        log_p[position] = log_softmax(z[position])[y]
        losses[position] = times(w[y], -log_p[position])
        weights[position] = w[y]
    kept = _hard_pixels(p, log_p, thresh, min_kept)
    return reduce(
        z.shape[:-1],
        {position: losses[position] for position in kept},
        math.fsum(weights[position] for position in kept),
        reduction,
    )


def _edge_pixels(
    logits: tuple[Any, Any], target: Any, edge_threshold: float, ignore_index: int | None, axis: int
) -> tuple[np.ndarray, list[tuple[Position, int]]]:
    """Seg logits with the classes last, and the valid pixels (with their labels) whose edge exceeds the threshold."""
    z, edge = classes_last(logits[0], axis), classes_last(logits[1], axis)
    if edge.shape != (*z.shape[:-1], 1):
        raise ValueError(f"edge of shape {np.shape(logits[1])} does not fit logits of shape {np.shape(logits[0])}")
    pixels = labelled_pixels(z, target, ignore_index, axis)
    return z, [(position, y) for position, y in pixels if float(edge[position][0]) > edge_threshold]


def edge_attention_loss(
    logits: tuple[Any, Any],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """ce over the valid pixels with edge > edge_threshold; logits = (seg_logits, edge)."""
    z, pixels = _edge_pixels(logits, target, edge_threshold, ignore_index, axis)
    losses = {position: -log_softmax(z[position])[y] for position, y in pixels}
    return reduce(z.shape[:-1], losses, len(losses), reduction)


def ohem_edge_attention_loss(
    logits: tuple[Any, Any],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    thresh: float = 0.7,
    min_kept: int = 5000,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """ce over the hard pixels among the valid ones with edge > edge_threshold."""
    z, pixels = _edge_pixels(logits, target, edge_threshold, ignore_index, axis)
    p = {position: softmax(z[position])[y] for position, y in pixels}
    log_p = {position: log_softmax(z[position])[y] for position, y in pixels}
    kept = _hard_pixels(p, log_p, thresh, min_kept)
    return reduce(z.shape[:-1], {position: -log_p[position] for position in kept}, len(kept), reduction)

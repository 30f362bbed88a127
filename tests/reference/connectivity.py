"""Losses of connected regions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    classes_last,
    image_count,
    image_index,
    labelled_pixels,
    no_parts,
    ratio,
    softmax,
)


def components(pixels: set[Position], most: int) -> list[set[Position]]:
    """The connected components of pixels of one image, neighbours sharing a side or a corner, the largest first.

    Those beyond the `most` largest stand together in one set behind them; of equal ones the first by position comes
    first.
    """
    found, left = [], set(pixels)
    for start in sorted(pixels):
        if start not in left:
            continue
        left.remove(start)
        component, edge = {start}, [start]
        while edge:
            image, *place = edge.pop()
            for step in itertools.product((-1, 0, 1), repeat=len(place)):
                near = (image, *(a + b for a, b in zip(place, step, strict=True)))
                if near in left:
                    left.remove(near)
                    component.add(near)
                    edge.append(near)
        found.append(component)
    found.sort(key=lambda component: -len(component))
    return [*found[:most], set().union(*found[most:])] if len(found) > most else found


def class_loss(p: dict[Position, float], predicted: set[Position], true: set[Position], size: int, most: int) -> float:
    """1 - connectivity of one class in one image, from p at its valid pixels, `size` of them."""
    pieces, parts = components(predicted, most), components(true, most)
    scores, met = [], False
    for part in parts[:most]:
        missed = math.fsum(p[x] for x in part - predicted)
        shares = [
            (math.fsum(p[x] for x in piece & part) + missed) / (len(part) + math.fsum(p[x] for x in piece - part))
            for piece in pieces[:most]
            if piece & part
        ]
        met = met or bool(shares)
        scores.append(math.fsum(shares) / len(shares) if shares else missed / len(part))
    lone = math.fsum(math.fsum(p[x] for x in piece) / len(piece) for piece in pieces[:most] if not piece & true)
    loss = 1.0 - math.fsum(scores) / (len(scores) + lone)
    if not met:
        wrong = [p[x] for x in predicted - true] + [1.0 - p[x] for x in true]
        loss += math.fsum(wrong) / size
    return loss


def semantic_connectivity_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    max_components: int = 10,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """1 - connectivity of the classes that an image has; "none" gives it in the shape (N, C)."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    images, classes = image_count(z), z.shape[-1]
    labels: list[dict[Position, int]] = [{} for _ in range(images)]
    for position, y in labelled_pixels(z, target, ignore_index, axis):
        labels[image_index(position)][position] = y

    losses, means = np.zeros((images, classes)), []
    for n, found in enumerate(labels):
        # Unbatched logits have one position, (), which is that of an image without axes.
        place = {position: position or (0,) for position in found}
        best = {place[x]: int(np.argmax(z[x])) for x in found}
        p = {place[x]: softmax(z[x]) for x in found}
        for c in sorted(set(found.values())):
            losses[n, c] = class_loss(
                {x: values[c] for x, values in p.items()},
                {x for x, b in best.items() if b == c},
                {place[x] for x, y in found.items() if y == c},
                len(found),
                max_components,
            )
        if found:
            means.append(math.fsum(losses[n]) / len(set(found.values())))
    if reduction == "none":
        return losses if z.ndim > 1 else losses[0]
    return math.fsum(losses.flat) if reduction == "sum" else ratio(math.fsum(means), len(means))

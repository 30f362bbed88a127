"""Dice losses, and the areas of regions that the Tversky losses have too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    class_weights,
    classes_last,
    image_count,
    image_index,
    labelled_pixels,
    no_parts,
    reduce,
    softmax,
)
from reference.binary import binary_target

#: Overlap, predicted and true area of each (image, class).
Areas = dict[tuple[int, int], tuple[float, float, float]]
Terms = Callable[[float, float], tuple[float, float, float]]


def _pairs(
    logits: Any, target: Any, activation: str | None, ignore_index: int | None, axis: int
) -> list[tuple[Position, int, float, float]]:
    """(position, class, p, t) of every entry that counts."""
    z = classes_last(logits, axis)
    classes = z.shape[-1]
    pairs = []
    if activation != "softmax":
        y, valid = binary_target(target, z, ignore_index, False, axis)
        for entry in np.ndindex(z.shape):
            if valid[entry]:
                x = float(z[entry])
                if activation == "sigmoid":
                    x = 1 / (1 + math.exp(-x)) if x > -700 else 0.0
                pairs.append((entry[:-1], entry[-1], x, float(y[entry])))
    elif are_labels(target):
        for position, y in labelled_pixels(z, target, ignore_index, axis):
            p = softmax(z[position])
            pairs += [(position, c, p[c], 1.0 if c == y else 0.0) for c in range(classes)]
    else:
        t = classes_last(target, axis)
        if t.shape != z.shape:
            raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
        for position in np.ndindex(z.shape[:-1]):
            p = softmax(z[position])
            pairs += [(position, c, p[c], float(t[position][c])) for c in range(classes)]
    return pairs


def region_areas(
    logits: Any,
    target: Any,
    *,
    terms: Terms,
    activation: str | None,
    batch: bool,
    ignore_index: int | None,
    axis: int,
) -> tuple[Areas, int, int]:
    """The sums of three terms of (p, t) over each class in each image, how many of these, and how many classes.

    A region without a valid entry has none: it is left out of every mean.
    """
    z = classes_last(logits, axis)
    images, classes = 1 if batch else image_count(z), z.shape[-1]
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = {
        (n, c): [] for n in range(images) for c in range(classes)
    }
    for position, c, p, t in _pairs(logits, target, activation, ignore_index, axis):
        found[0 if batch else image_index(position), c].append(terms(p, t))
    areas = {
        region: (math.fsum(a for a, _, _ in of), math.fsum(b for _, b, _ in of), math.fsum(c for _, _, c in of))
        for region, of in found.items()
        if of
    }
    return areas, images, classes


def overlap_and_areas(squared: bool) -> Terms:
    """What sums to the overlap, the predicted and the true area."""
    power = 2 if squared else 1
    return lambda p, t: (p * t, p**power, t**power)


def one_minus(above: float, below: float) -> float:
    """1 - above / below, 0 where that is 0/0."""
    return 0.0 if below == 0 else 1.0 - above / below


def region_loss(
    of: Callable[[float, float, float], float],
    logits: Any,
    target: Any,
    *,
    terms: Terms | None = None,
    weight: Any = None,
    activation: str | None = "softmax",
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_c d_nc with d = of(sum p t, sum p, sum t), or of the sums of other terms; "none" is (N, C).

    The mean is over n and c, weighted by w_c.
    """
    no_parts(reduction)
    areas, images, classes = region_areas(
        logits,
        target,
        terms=terms or overlap_and_areas(squared),
        activation=activation,
        batch=batch,
        ignore_index=ignore_index,
        axis=axis,
    )
    w = class_weights(weight, classes)
    if not include_background:
        w[0] = 0.0
    values = {(n, c): w[c] * of(*areas[n, c]) for n, c in areas}
    value = reduce((images, classes), values, math.fsum(w[c] for _, c in areas), reduction)
    return value[0] if isinstance(value, np.ndarray) and (np.ndim(logits) == 1 or batch) else value


def dice_loss(logits: Any, target: Any, *, smooth: float = 0.0, **options: Any) -> Result:
    """d_nc = 1 - (2 sum p t + smooth) / (sum p + sum t + smooth)."""
    return region_loss(lambda o, p, t: one_minus(2.0 * o + smooth, p + t + smooth), logits, target, **options)


def log_cosh_dice_loss(logits: Any, target: Any, *, smooth: float = 0.0, **options: Any) -> Result:
    """log cosh d_nc of the Dice loss d."""

    def of(o: float, p: float, t: float) -> float:
        return math.log(math.cosh(one_minus(2.0 * o + smooth, p + t + smooth)))

    return region_loss(of, logits, target, **options)


def generalized_dice_loss(
    logits: Any,
    target: Any,
    *,
    weight_type: str = "square",
    smooth: float = 0.0,
    include_background: bool = True,
    reduction: str = "mean",
    batch: bool = False,
    **options: Any,
) -> Result:
    """d_n = 1 - (2 sum_c w sum p t + smooth) / (sum_c w (sum p + sum t) + smooth), w = 1/T^2, 1/T or 1 of T = sum t.

    An absent class has the largest w of those that are there.
    """
    no_parts(reduction)
    ignore_index, axis = options.pop("ignore_index", 255), options.pop("axis", 1)
    areas, images, classes = region_areas(
        logits,
        target,
        activation=options.pop("activation", "softmax"),
        terms=overlap_and_areas(options.pop("squared", False)),
        batch=batch,
        ignore_index=ignore_index,
        axis=axis,
    )
    assert not options, options
    power = {"square": 2, "simple": 1, "uniform": 0}[weight_type]
    values: dict[Position, float] = {}
    for n in range(images):
        counted = [c for c in range(0 if include_background else 1, classes) if (n, c) in areas]
        if not counted:
            continue
        there = {c: areas[n, c][2] ** -power for c in counted if areas[n, c][2] > 0}
        w = {c: there.get(c, max(there.values(), default=0.0)) for c in counted}
        above = 2.0 * math.fsum(w[c] * areas[n, c][0] for c in counted) + smooth
        below = math.fsum(w[c] * (areas[n, c][1] + areas[n, c][2]) for c in counted) + smooth
        values[(n,)] = one_minus(above, below)
    value = reduce((images,), values, len(values), reduction)
    return value[0] if isinstance(value, np.ndarray) and (np.ndim(logits) == 1 or batch) else value

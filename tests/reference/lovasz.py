"""Lovasz extensions of the Jaccard loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    checked,
    classes_last,
    image_count,
    image_index,
    label_map,
    labelled_pixels,
    no_parts,
    ratio,
    reduce,
    softmax,
    times,
)


def lovasz_extension_bruteforce(errors: Iterable[float], foreground: Iterable[bool]) -> float:
    """The Lovasz extension of the Jaccard loss at `errors`, straight from its definition.

    The Jaccard loss of a set M of mispredicted pixels is J(M) = |M| / |F union M|, F the foreground, J of the empty set
    0. With the pixels in the order of descending error, M_i the first i of them, the extension is
    sum_i e_i (J(M_i) - J(M_{i-1})). Pixels with equal errors may stand in any order: their differences add up.
    """
    errors = [float(e) for e in errors]
    union = {i for i, is_foreground in enumerate(foreground) if is_foreground}
    mispredicted: set[int] = set()
    previous = Fraction(0)
    terms = []
    for i in sorted(range(len(errors)), key=lambda pixel: errors[pixel], reverse=True):
        mispredicted.add(i)
        union.add(i)
        jaccard = Fraction(len(mispredicted), len(union))
        terms.append(times(float(jaccard - previous), errors[i]))
        previous = jaccard
    return math.fsum(terms)


def lovasz_extension_closed_form(errors: Iterable[float], foreground: Iterable[bool]) -> float:
    """The same with the weights in closed form: 1/(g+b) for a positive, (g-k)/((g+b-1)(g+b)) for a negative.

    Not used by the losses here: it stands beside the definition so that a test can hold the two together.
    """
    errors, foreground = [float(e) for e in errors], [bool(f) for f in foreground]
    g, k, b = sum(foreground), 0, 0
    terms = []
    for i in sorted(range(len(errors)), key=lambda pixel: errors[pixel], reverse=True):
        if foreground[i]:
            k += 1
            share = 1 / (g + b)
        elif g == 0:
            b += 1
            share = 1.0 if b == 1 else 0.0
        else:
            b += 1
            share = (g - k) / ((g + b - 1) * (g + b))
        terms.append(times(share, errors[i]))
    return math.fsum(terms)


def lovasz_softmax_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Lovasz extension per class at e = |[y=c] - p_c|, of the batch or averaged over its images with a valid pixel.

    "none" gives (C,), 0 for the classes that do not count; with per_image the average over the images, as for the rest.
    """
    no_parts(reduction)
    z = classes_last(logits, axis)
    count = z.shape[-1]
    groups: list[list[tuple[list[float], int]]] = [[] for _ in range(image_count(z) if per_image else 1)]
    for position, y in labelled_pixels(z, target, ignore_index, axis):
        groups[image_index(position) if per_image else 0].append((softmax(z[position]), y))

    means = []
    by_class: list[list[float]] = [[] for _ in range(count)]
    for pixels in filter(None, groups):
        if isinstance(classes, str):
            counted = [c for c in range(count) if classes == "all" or any(y == c for _, y in pixels)]
        else:
            counted = [checked(int(c), count) for c in classes]
        values = [0.0] * count
        for c in counted:
            foreground = [y == c for _, y in pixels]
            errors = [abs((1.0 if y == c else 0.0) - p[c]) for p, y in pixels]
            values[c] = lovasz_extension_bruteforce(errors, foreground)
        means.append(ratio(math.fsum(values), len(counted)))
        for c in range(count):
            by_class[c].append(values[c])
    if reduction == "mean":
        return ratio(math.fsum(means), len(means))
    averages: dict[Position, float] = {(c,): ratio(math.fsum(by_class[c]), len(means)) for c in range(count)}
    return reduce((count,), averages, count, reduction)


def lovasz_hinge_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Lovasz extension at relu(1 - z (2y - 1)), of the batch or averaged as above; "none" is (1,), one class."""
    no_parts(reduction)
    z = classes_last(logits, axis)
    if z.shape[-1] not in (1, 2):
        raise ValueError(f"the class axis has length {z.shape[-1]}, not 1 or 2")
    labels = label_map(target, z, axis)
    groups: list[list[tuple[float, int]]] = [[] for _ in range(image_count(z) if per_image else 1)]
    for position in np.ndindex(labels.shape):
        if int(labels[position]) == ignore_index:
            continue
        y = checked(int(labels[position]), 2)
        score = float(z[position][0]) if z.shape[-1] == 1 else float(z[position][1]) - float(z[position][0])
        groups[image_index(position) if per_image else 0].append((score, y))

    values = []
    for pixels in filter(None, groups):
        errors = [max(1.0 - score * (2 * y - 1), 0.0) for score, y in pixels]
        values.append(lovasz_extension_bruteforce(errors, [y == 1 for _, y in pixels]))
    return reduce((1,), {(0,): ratio(math.fsum(values), len(values))}, 1.0, reduction)

"""The door of the auxiliary heads: scores at points, of whole images or of one kind, against label maps."""

from __future__ import annotations

import math
from typing import Any

from arrayloss._core import advice, errors
from arrayloss._core.classes import target_form
from arrayloss._core.inputs import Inputs
from arrayloss._core.labels import open_labels, tell_mask
from arrayloss._core.logits import class_axis, class_axis_to_1, open_logits, pair
from arrayloss._core.ranges import poison
from arrayloss._machines.namespace import FLOATS, HALVES, LABELS, Library, device_of, dtype_name

Array = Any

#: Up to so many labels are counted each, whether they are classes or not.
_MOST_BINS = 256


def open_points(function: str, logits: Any, target: Array, axis: int, ignore_index: int | None) -> Inputs:
    """Check scores `(N, C, P)` at points `(N, P, D)` of label maps; return them with the label of each point.

    The points are `(x, y)` or `(x, y, z)`, in [0, 1] of the maps; the last coordinate is along the first axis of space.
    """
    scores, points = pair(function, logits, "point logits, points")
    library, x = open_logits(function, {"logits[0]": scores, "logits[1]": points, "target": target}, "logits[0]")
    if scores.ndim != 3:
        raise errors.shape(function, "logits[0]", scores, "(N, C, P)")
    axis = class_axis(function, scores, axis)
    x = class_axis_to_1(library.xp, x, axis)
    if points.ndim != 3 or points.shape[0] != x.shape[0] or points.shape[1] != x.shape[2] or points.shape[2] == 0:
        expected = f"({x.shape[0]}, {x.shape[2]}, D): the D coordinates of each point of logits[0] of shape "
        raise errors.shape(function, "logits[1]", points, expected, str(tuple(scores.shape)))
    space = _space(function, target, x.shape[0], points.shape[2])
    place, outside = _pixels_of(function, library, points, space)
    # Points are few and maps are large: labels that no point lies in are not looked at.
    maps = library.xp.reshape(target, (x.shape[0], math.prod(space)))
    at_points = library.kernels.take_rows(library.xp, maps, place)
    labels, valid, bad = open_labels(function, library, at_points, x.shape[1], ignore_index)
    return Inputs(function, library, x, labels, None, valid, bad, axis, True).poisoned(outside)


def _space(function: str, target: Array, images: int, dimensions: int) -> tuple[int, ...]:
    """Return the sizes behind the batch of label maps `(N, *S)` or `(N, 1, *S)`."""
    shape = tuple(target.shape)
    space = shape[2:] if len(shape) == dimensions + 2 and shape[1] == 1 else shape[1:]
    if len(space) != dimensions or shape[0] != images or 0 in space:
        expected = (
            f"label maps of shape ({images}, *S) or ({images}, 1, *S) with {dimensions} axes of space, at least one "
            f"pixel long, for points of {dimensions} coordinates"
        )
        raise errors.shape(function, "target", target, expected)
    _only_labels(function, target)
    return space


def _only_labels(function: str, target: Array) -> None:
    if dtype_name(target) not in LABELS:
        raise errors.dtype(function, "target", target, "integer class labels or bool")


def _pixels_of(function: str, library: Library, points: Array, space: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Return the flat index of the pixel that each point lies in, and the poison where points could not be read."""
    xp, k = library.xp, library.kernels
    kind = dtype_name(points)
    if kind not in FLOATS:
        raise errors.dtype(function, "logits[1]", points, "a real floating dtype: points in [0, 1]")
    points = k.constant(xp.astype(points, xp.float32) if kind in HALVES else points)
    found, bad = k.host_range(points), None
    if found is None:
        inside = (points >= 0.0) & (points <= 1.0)
        points, bad = k.where_or(xp, inside, points, 0.0), poison(library, ~inside)
    elif not (found[0] >= 0.0 and found[1] <= 1.0):
        raise errors.values(function, "logits[1]", found, "points in [0, 1]")
    place = None
    for i, size in enumerate(space):
        # Rounded towards 0, which is down. A point at 1 lies in the last pixel.
        pixel = xp.astype(points[..., len(space) - 1 - i] * size, k.label_dtype(xp, "int32"))
        pixel = xp.minimum(pixel, xp.full_like(pixel, size - 1))
        place = pixel if place is None else place * size + pixel
    return place, bad


def open_scenes(
    function: str, logits: Array, target: Array, axis: int, ignore_index: int | None
) -> tuple[Inputs, Array]:
    """Check scores `(N, C)` of whole images against label maps; return them with which classes each map holds."""
    library, x = open_logits(function, {"logits": logits, "target": target})
    if logits.ndim not in (1, 2):
        raise errors.shape(function, "logits", logits, "(N, C) or (C,)")
    axis, batched = class_axis(function, logits, axis), logits.ndim == 2
    x = class_axis_to_1(library.xp, x, axis)
    shape = tuple(target.shape)
    if batched and (not shape or shape[0] != x.shape[0]):
        expected = f"a label map for each image, ({x.shape[0]}, *S), for logits of shape {tuple(logits.shape)}"
        raise errors.shape(function, "target", target, expected)
    _only_labels(function, target)
    rows = (x.shape[0], math.prod(shape[1:] if batched else shape))
    held, bad = _classes_held(function, library, target, rows, x.shape[1], ignore_index)
    return Inputs(function, library, x, None, None, None, bad, axis, batched), held


def _classes_held(
    function: str, library: Library, target: Array, rows: tuple[int, int], classes: int, ignore_index: int | None
) -> tuple[Array, Array | None]:
    """Return which classes stand in each of the rows of a target, boolean `(N, C)`, and the poison."""
    xp, k = library.xp, library.kernels
    labels = xp.astype(target, k.label_dtype(xp, dtype_name(target)), copy=False)
    bins = classes if ignore_index is None else max(classes, ignore_index + 1)
    found = k.host_range(labels) if bins <= _MOST_BINS and (classes <= 255 or ignore_index != 255) else None
    if found is not None and found[0] >= 0 and found[1] < bins:
        # The ignored label is counted with the others, in a bin of its own: that costs less than a mask.
        counts = k.label_counts(xp, xp.reshape(labels, rows), None, bins, xp.float32)
        if bins - 1 <= classes or k.host_range(counts[:, classes : bins - 1]) == (0.0, 0.0):
            if classes <= 2 and k.host_range(counts[:, 1:classes]) in (None, (0.0, 0.0)):
                tell_mask(function, "target", ignore_index, found, (0, 0))
            index = xp.arange(classes, dtype=xp.int32, device=device_of(counts))
            others = xp.expand_dims(index != (-1 if ignore_index is None else ignore_index), axis=0)
            return (counts[:, :classes] > 0.0) & others, None
    labels, valid, bad = open_labels(function, library, target, classes, ignore_index)
    valid = None if valid is None else xp.reshape(valid, rows)
    return k.label_counts(xp, xp.reshape(labels, rows), valid, classes, xp.float32) > 0.0, bad


def open_map_of_one_score(function: str, logits: Array, target: Array, axis: int) -> tuple[Library, Array, Array, int]:
    """Return the library, scores `(N, 1, H, W)`, label maps `(N, H, W)` as given, and the class axis."""
    library, x = open_logits(function, {"logits": logits, "target": target})
    axis = class_axis(function, logits, axis)
    if logits.ndim != 4 or logits.shape[axis] != 1:
        more = advice.of_shapes(function, logits, target, axis)
        raise errors.shape(function, "logits", logits, "images of one score, (N, 1, H, W)", more)
    target_form(function, logits, target, axis, probabilities=False)
    x = class_axis_to_1(library.xp, x, axis)
    return library, x, library.xp.reshape(target, (x.shape[0], *x.shape[2:])), axis

"""Binary cross entropy, and the edge maps it can be trained on."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_binary
from arrayloss._core.inputs import Inputs, shape_of
from arrayloss._core.labels import mapped, read_map
from arrayloss._core.logits import class_axis, class_axis_back, class_axis_to_1, open_logits
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import BINARY
from arrayloss._machines.namespace import LABELS, device_of, dtype_name

A = TypeVar("A")
Array = Any

#: Distance in pixels within which another label makes an edge, for `edge_label=True`.
_EDGE_RADIUS = 2.0


@public
def bce_loss(
    logits: A,
    target: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    ignore_index: int | None = 255,
    edge_label: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a wrong yes or no, independently for every class of every position.

    With logits :math:`x`, targets :math:`y` in [0, 1], ``weight`` :math:`w`, ``pos_weight`` :math:`q` and
    :math:`\mathrm{softplus}(x) = \log(1 + e^x)`,

    .. math:: w\, [\, q\, y\, \mathrm{softplus}(-x) + (1 - y)\, \mathrm{softplus}(x)\, ]

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class
        axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S),
        which become one-hot.
    weight : sequence, array or "dynamic", optional
        Of the rank of the logits and broadcastable to them, or one number for each of the N batch elements.
        "dynamic" weighs positives 2 neg / (pos + neg) and negatives 2 pos / (pos + neg), counted over the valid
        entries; a target strictly between 0 and 1 takes the blend of both and is not counted.
    pos_weight : number, sequence or array of C numbers, or "dynamic", optional
        Weight of the positive part; "dynamic" is 2 neg / (pos + neg).
    ignore_index : int or None
        Entries whose target equals it (positions, where the target holds labels) count nowhere; None ignores nothing.
    edge_label : bool
        The target is a label map of shape (N, H, W) or (N, 1, H, W), the logits have one class, and the loss is against
        ``label_edges(target, radius=2, ignore_index=ignore_index)``.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the logits, 0 where ignored.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or the shape of the logits for "none", of the library and on the device of the logits, in their dtype, at
        least float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a target outside [0, 1] (a label outside [0, C)) that is not ignored, or
        labels with ``ignore_index=255`` and more than 255 classes. On a GPU and under jit, vmap and compile a wrong
        target makes the loss NaN.

    Notes
    -----
    With neither positives nor negatives to count, "dynamic" weights are 0. The part of a target that is 0 counts
    nothing even where its softplus is infinite.

    References
    ----------
    Good, Rational Decisions, Journal of the Royal Statistical Society B 14, 1952 (the logarithmic score). Dynamic
    weights: Xie and Tu, Holistically-Nested Edge Detection, ICCV 2015, equation 2 (there without the factor 2).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(round(float(al.bce_loss(np.array([[0.0], [2.0], [9.0]]), np.array([1, 0, 255]))), 4))
    1.41
    """
    opened = _open_edges if edge_label else open_binary
    return reduced(opened("bce_loss", logits, target, axis, ignore_index), logits, weight, pos_weight, reduction)


def reduced(inputs: Inputs, logits: Array, weight: Any, pos_weight: Any, reduction: str) -> Any:
    """Return the binary cross entropy of clean inputs, reduced; `logits` are the caller's."""
    if weight is None and pos_weight is None and reduction != "none":
        return reduce.entries(inputs, reduction, BINARY)
    losses = _entry_losses(inputs, logits, weight, pos_weight)
    return reduce.positions(inputs, losses, reduce.number_of_entries(inputs), reduction)


def _entry_losses(inputs: Inputs, logits: Array, weight: Any, pos_weight: Any) -> Array:
    """Return the weighted losses of all entries, with the class axis where the caller's logits have it."""
    xp, k = inputs.xp, inputs.kernels
    inputs = inputs.as_entries()
    x = k.where_or(xp, inputs.valid, inputs.logits, 0.0)
    positive, negative = _sides(inputs, inputs.target, logits, weight, pos_weight)
    # Where an infinite logit would give 0 * inf, the term of weight 0 is taken out first.
    losses = inputs.scale(k.softplus(xp, -x), positive) + inputs.scale(k.softplus(xp, x), negative)
    return class_axis_back(xp, k.where_or(xp, inputs.valid, losses, 0.0), inputs.axis if inputs.batched else 1)


def _sides(inputs: Inputs, y: Array, logits: Array, weight: Any, pos_weight: Any) -> tuple[Array, Array]:
    """Return the weights of every entry as a positive and as a negative."""
    positive, negative = y, 1.0 - y
    dynamic = _dynamic(inputs, y) if isinstance(weight, str) or isinstance(pos_weight, str) else (1.0, 1.0)
    pos = _pos_weight(inputs, pos_weight, dynamic)
    if pos is not None:
        positive = positive * pos
    if weight is None:
        return positive, negative
    if isinstance(weight, str):
        scale = y * dynamic[0] + (1.0 - y) * dynamic[1]
    else:
        scale = _entry_weight(inputs, weight, logits)
    return positive * scale, negative * scale


def _open_edges(function: str, logits: Array, target: Array, axis: int, ignore_index: int | None) -> Inputs:
    """Return inputs whose target is the edge map of the labels."""
    library, x = open_logits(function, {"logits": logits, "target": target})
    xp, whole, kind = library.xp, tuple(logits.shape), dtype_name(target)
    axis = class_axis(function, logits, axis)
    x = class_axis_to_1(xp, x, axis)
    if x.shape[1] != 1 or x.ndim != 4:
        raise ValueError(
            f"{function}: logits has shape {whole}, expected images of one class, (N, 1, H, W), for edge_label"
        )
    shape, positions = tuple(target.shape), (*whole[:axis], *whole[axis + 1 :])
    if shape not in (positions, whole) or kind not in LABELS:
        what, error = (f"dtype {kind}", TypeError) if shape in (positions, whole) else (f"shape {shape}", ValueError)
        raise error(
            f"{function}: target has {what}, expected an integer label map of shape {positions} or {whole} with "
            f"edge_label=True"
        )
    labels = xp.reshape(target, (x.shape[0], *x.shape[2:]))
    edges, valid = _edges(function, library, labels, _EDGE_RADIUS, ignore_index)
    y = xp.expand_dims(xp.astype(edges, x.dtype), axis=1)
    valid = None if valid is None else xp.expand_dims(valid, axis=1)
    return Inputs(function, library, x, None, y, valid, None, axis, len(whole) > 1)


def _dynamic(inputs: Inputs, y: Array) -> tuple[Array, Array]:
    """Return 2 neg / (pos + neg) and 2 pos / (pos + neg), counted over the valid entries; 0 with none to count."""
    xp = inputs.xp
    count = []
    for label in (1.0, 0.0):
        hit = y == label if inputs.valid is None else (y == label) & inputs.valid
        count.append(xp.astype(inputs.kernels.count(xp, hit), inputs.logits.dtype))
    pos, neg = count
    return reduce.ratio(inputs, 2.0 * neg, pos + neg), reduce.ratio(inputs, 2.0 * pos, pos + neg)


def _pos_weight(inputs: Inputs, pos_weight: Any, dynamic: tuple[Array, Array]) -> Array | float | None:
    if pos_weight is None or isinstance(pos_weight, float):
        return pos_weight
    if isinstance(pos_weight, str):
        return dynamic[0]
    per_class = inputs.plain_array("pos_weight", pos_weight, [(inputs.classes,), ()], "a number, or one per class")
    return inputs.xp.reshape(per_class, (1, -1) + (1,) * (inputs.logits.ndim - 2))


def _entry_weight(inputs: Inputs, weight: Any, logits: Array) -> Array:
    """Return `weight` as an array that broadcasts to `(N, C, *S)`."""
    xp, whole = inputs.xp, tuple(logits.shape)
    given = shape_of(weight)
    if len(given) == len(whole) and all(a == 1 or a == b for a, b in zip(given, whole, strict=True)):
        array = inputs.plain_array("weight", weight, [given], "")
        return class_axis_to_1(xp, array, inputs.axis)
    batch = (inputs.logits.shape[0],)
    array = inputs.plain_array(
        "weight", weight, [batch], f"one per batch element; or rank {len(whole)}, broadcastable to {whole}"
    )
    return xp.reshape(array, batch + (1,) * (inputs.logits.ndim - 1))


class BCELoss(Loss, function=bce_loss):
    """The options of `bce_loss`, bound."""

    weight: Any = None
    pos_weight: Any = None
    ignore_index: int | None = 255
    edge_label: bool = False
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def label_edges(target: A, radius: float = 2.0, ignore_index: int | None = 255) -> A:
    """Return where labels meet: 1 at pixels with another label within `radius`, else 0.

    Parameters
    ----------
    target : array, shape (N, H, W)
        Label map of any integer dtype or bool.
    radius : float, at least 0
        Euclidean distance in pixels, from centre to centre, that still counts as near.
    ignore_index : int or None
        Label of pixels that keep it and are nobody's other label.

    Returns
    -------
    array, shape (N, H, W)
        In the dtype of the target (uint8 for bool), 1 at edges, 0 elsewhere and `ignore_index` where ignored. Beyond
        the image counts as another label, so the border of an image is an edge.

    Raises
    ------
    TypeError
        `target` is no array of integers or bool.
    ValueError
        `target` has another rank, or `radius` is negative.

    Notes
    -----
    Cost: one comparison of the map with itself for each of the about 3.1 radius^2 offsets in the disc.

    References
    ----------
    The edge maps of Takikawa et al., Gated-SCNN: Gated Shape CNNs for Semantic Segmentation, ICCV 2019, section 3.1,
    there computed by a Euclidean distance transform of every class.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.label_edges(np.array([[[0, 0, 0, 0, 1, 1, 1, 1]] * 5]), radius=1)[0, 2])
    [1 0 0 1 1 0 0 1]
    """
    result: A = mapped(
        "label_edges",
        target,
        lambda library, labels: _edges("label_edges", library, labels, radius, ignore_index),
    )
    return result


def _edges(
    function: str, library: Any, labels: Array, radius: float, ignore_index: int | None
) -> tuple[Array, Array | None]:
    """Return the boolean edge map of `(N, H, W)` labels, False where ignored, and the mask of valid pixels."""
    xp = library.xp
    labels, valid, _ = read_map(function, library, labels, ignore_index)
    reach = math.floor(radius)
    edges = xp.zeros_like(labels, dtype=xp.bool)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if (down, right) == (0, 0) or down * down + right * right > radius * radius:
                continue
            differs = labels != xp.roll(labels, (-down, -right), axis=(1, 2))
            if valid is not None:
                differs = differs & xp.roll(valid, (-down, -right), axis=(1, 2))
            edges = edges | differs | ~_inside(xp, labels, down, right)
    return edges if valid is None else edges & valid, valid


def _inside(xp: Any, labels: Array, down: int, right: int) -> Array:
    """Return where a pixel's neighbour at the offset is still in the image, shape `(H, W)`."""
    masks = []
    for length, step in ((labels.shape[1], down), (labels.shape[2], right)):
        index = xp.arange(length, dtype=labels.dtype, device=device_of(labels)) + step
        masks.append((index >= 0) & (index < length))
    return xp.reshape(masks[0], (1, -1, 1)) & xp.reshape(masks[1], (1, 1, -1))

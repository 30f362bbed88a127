"""Losses of boundaries between regions, in images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.logits import class_axis_back, class_axis_to_1
from arrayloss._core.loss import Loss
from arrayloss._machines.generic.windows import TRIANGLE

A = TypeVar("A")
Array = Any

#: The smoothing of `dual_task_loss`: a triangle over 9 pixels, of sum 1.
_PAD = len(TRIANGLE) // 2


@public
def relax_boundary_loss(
    logits: A,
    target: Any,
    *,
    border: int = 1,
    calculate_weights: bool = False,
    upper_bound: float = 1.0,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low summed probability of the classes around each pixel, so that a boundary may lie either way.

    With :math:`p = \mathrm{softmax}(\text{logits})` and :math:`D` the set of classes of the valid pixels within the
    window of :math:`(2\, \text{border} + 1)^2` pixels around a pixel, its loss is

    .. math:: -a \log \sum_{c \in D} p_c

    with :math:`a = 1`, or with ``calculate_weights`` the mean over :math:`D` of
    :math:`1 + [h_c > 0]\, \text{upper\_bound}\, (1 - h_c)`, where :math:`h_c` is the share of class :math:`c` among all
    members of the sets :math:`D` of the valid pixels of that image.

    Parameters
    ----------
    logits : array, shape (N, C, H, W)
        Unnormalised scores of images, of a real floating dtype, the classes on ``axis``.
    target : array, shape (N, H, W) or (N, 1, H, W)
        Class labels of any integer dtype or bool.
    border : int, at least 0
        Reach of the window, in pixels to each side; 0 gives cross entropy.
    calculate_weights : bool
        Whether rare classes weigh more, image by image.
    upper_bound : float, at least 0
        What a vanishing class weighs more than one that is everywhere.
    ignore_index : int or None
        Label of pixels that count nowhere and lend their class to no neighbourhood; None ignores nothing.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of :math:`a` over the valid pixels; "parts" returns (total, weight) with
        mean = total / weight; "none" has shape (N, H, W), 0 where ignored.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, H, W) for "none", of the library and on the device of the logits, in their dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    The sets are constants to differentiation. Cost: that of two cross entropies, and 4 border comparisons of a boolean
    array in the shape of the logits.

    References
    ----------
    Zhu et al., Improving Semantic Segmentation via Video Propagation and Label Relaxation, CVPR 2019, equation 3;
    the weights as in its published code.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits, target = np.zeros((1, 3, 1, 4)), np.array([[[0, 0, 1, 1]]])
    >>> print(al.relax_boundary_loss(logits, target, reduction="none").round(3))
    [[[1.099 0.405 0.405 1.099]]]
    """
    inputs = _open_images("relax_boundary_loss", logits, target, axis, ignore_index)
    xp, k = inputs.xp, inputs.kernels
    members = k.one_hot(xp, inputs.labels, inputs.classes)
    if inputs.valid is not None:
        members = members & xp.expand_dims(inputs.valid, axis=1)
    for space in (2, 3):
        members = _dilate(xp, members, border, space)
    losses = k.members_nll(xp, inputs.logits, members, inputs.valid)
    weights = None
    if calculate_weights:
        weights = _border_weights(inputs, members, upper_bound)
        losses = losses * weights
    return reduce.valid_positions(inputs, losses, weights, reduction)


class RelaxBoundaryLoss(Loss, function=relax_boundary_loss):
    """The options of `relax_boundary_loss`, bound."""

    border: int = 1
    calculate_weights: bool = False
    upper_bound: float = 1.0
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


def _open_images(
    function: str, logits: Array, target: Array, axis: int, ignore_index: int | None, least: int = 0
) -> Inputs:
    """Return the inputs of a loss that needs images, empty or of at least `least` pixels a side."""
    inputs = open_classes(function, logits, target, axis, ignore_index, ranks=(4,))
    height, width = inputs.logits.shape[2:]
    if height * width and min(height, width) < least:
        raise ValueError(
            f"{function}: logits has shape {tuple(logits.shape)}, expected images of at least {least} x {least} pixels"
        )
    return inputs


def _dilate(xp: Any, members: Array, border: int, axis: int) -> Array:
    """Return where any entry within `border` along an axis is true."""
    found = members
    length = members.shape[axis]
    for step in range(1, min(border, length - 1) + 1):
        edge = xp.zeros_like(_cut(members, axis, 0, step))
        found = found | xp.concat([_cut(members, axis, step, length), edge], axis=axis)
        found = found | xp.concat([edge, _cut(members, axis, 0, length - step)], axis=axis)
    return found


def _border_weights(inputs: Inputs, members: Array, upper_bound: float) -> Array:
    """Return the mean over each pixel's set of the class weights of its image, 0 where ignored."""
    xp, k = inputs.xp, inputs.kernels
    if inputs.valid is not None:
        members = members & xp.expand_dims(inputs.valid, axis=1)
    inside = xp.astype(members, inputs.logits.dtype)
    counts = xp.sum(inside, axis=(2, 3), keepdims=True)
    share = reduce.ratio(inputs, counts, xp.sum(counts, axis=1, keepdims=True))
    class_weights = k.where_or(xp, share > 0.0, (1.0 - share) * upper_bound + 1.0, 1.0)
    return reduce.ratio(inputs, xp.sum(inside * class_weights, axis=1), xp.sum(inside, axis=1))


@public
def dual_task_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    tau: float = 0.5,
    noise: Any = None,
    rng: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise class boundaries that are predicted where there are none, and those that are missed.

    With :math:`z` the logits (0 where ignored) plus Gumbel noise, and :math:`t` the one-hot target (ignored pixels as
    class 0), the loss of every class of a pixel is

    .. math:: |\, \mathrm{mag}(\mathrm{softmax}(z / \tau)) - \mathrm{mag}(t)\, |

    where :math:`\mathrm{mag}(x)` pads :math:`x` symmetrically by 4, smooths it by the separable triangle
    [1 2 3 4 5 4 3 2 1]/25, takes the central differences :math:`g_x, g_y` = [-1/2, 0, 1/2] with zero padding, and is
    :math:`\sqrt{g_x^2 + g_y^2 + 10^{-6}}`, over its largest value in the batch.

    Parameters
    ----------
    logits : array, shape (N, C, H, W), H and W at least 3
        Unnormalised scores of images, of a real floating dtype, the classes on ``axis``.
    target : array, shape (N, H, W) or (N, 1, H, W)
        Class labels of any integer dtype or bool.
    ignore_index : int or None
        Label of pixels that have no loss; None ignores nothing.
    tau : float, above 0
        Temperature of the softmax.
    noise : array in the shape of the logits, or the number 0, optional
        Gumbel samples; 0 for none. Passed in the call.
    rng : numpy.random.Generator, cupy.random.Generator, torch.Generator or JAX key, optional
        What to draw the noise from, of the library of the logits (NumPy's for libraries without one). With neither
        `noise` nor `rng` NumPy, CuPy and torch draw from their default generator. Passed in the call.
    reduction : "mean", "sum" or "none"
        "mean" divides by C times the number of valid pixels; "none" has the shape of the logits, 0 where ignored.
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
        Arrays of two libraries, or a dtype or a generator that does not fit.
    ValueError
        Shapes or options that do not fit, images under 3 x 3, both `noise` and `rng`, neither of them with JAX, a label
        outside [0, C) that is not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit,
        vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Ignored pixels enter the smoothing and the largest value as class 0 and logits 0, so that their own logits change
    nothing. The gradient runs through the largest value; its kinks, where both magnitudes are equal, have gradient 0.

    References
    ----------
    Takikawa et al., Gated-SCNN: Gated Shape CNNs for Semantic Segmentation, ICCV 2019, equations 6 to 8 (dual task
    regularizer), and its published code for the filters.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.eye(4, dtype=int)[None]
    >>> logits = np.stack([1 - target, target], axis=1) * 20.0
    >>> print(round(float(al.dual_task_loss(logits, target, noise=0)), 4))
    0.0
    """
    inputs = _open_images("dual_task_loss", logits, target, axis, ignore_index, least=3)
    xp, k = inputs.xp, inputs.kernels
    noise = _noise(inputs, logits, noise, rng)
    if math.prod(inputs.logits.shape) == 0:
        return _reduced_entries(inputs, inputs.logits, reduction)
    z = k.where_valid(xp, inputs.valid, inputs.logits)
    # The largest score is taken off first: the noise would lose its digits in large ones.
    z = (z - k.constant(xp.max(z, axis=1, keepdims=True))) + noise
    true = xp.astype(k.one_hot(xp, inputs.labels, inputs.classes), inputs.logits.dtype)
    magnitude = k.whole(_magnitude)
    predicted = magnitude(xp, k.softmax(xp, z / tau, None), k.triangle)
    difference = predicted - magnitude(xp, true, k.triangle)
    return _reduced_entries(inputs, k.where_valid(xp, inputs.valid, inputs.absolute(difference)), reduction)


def _reduced_entries(inputs: Inputs, losses: Array, reduction: str) -> Any:
    """Reduce losses of entries to a mean over the classes and the valid pixels."""
    divisor = reduce.weight_of(inputs, None, inputs.valid, inputs.labels.shape, inputs.classes)
    if reduction == "none":
        losses = class_axis_back(inputs.xp, losses, inputs.axis)
    return reduce.positions(inputs, losses, divisor, reduction)


class DualTaskLoss(Loss, function=dual_task_loss):
    """The options of `dual_task_loss`, bound."""

    ignore_index: int | None = 255
    tau: float = 0.5
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


def _noise(inputs: Inputs, logits: Array, noise: Any, rng: Any) -> Array:
    """Return the noise of a call in the layout of the inputs: as given, none, or drawn."""
    drawn = inputs.drawn(inputs.logits, noise, rng)
    if drawn is not None:
        return drawn
    if tuple(noise.shape) != tuple(logits.shape):
        raise ValueError(
            f"dual_task_loss: noise has shape {tuple(noise.shape)}, expected {tuple(logits.shape)}, that of the logits"
        )
    return class_axis_to_1(inputs.xp, inputs.xp.astype(noise, inputs.logits.dtype), inputs.axis)


def _cut(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[tuple(slice(start, stop) if i == axis else slice(None) for i in range(x.ndim))]


def _smooth(xp: Any, x: Array, axis: int, triangle: Callable[..., Array]) -> Array:
    """Return `x`, padded symmetrically, under the triangle along an axis."""
    length = x.shape[axis]

    def mirrored(places: Sequence[int]) -> list[Array]:
        # Symmetric padding repeats the border; beyond the far end it turns round again.
        turns = (i % (2 * length) for i in places)
        return [_cut(x, axis, j, j + 1) for j in (i if i < length else 2 * length - 1 - i for i in turns)]

    before, after = mirrored(range(-_PAD, 0)), mirrored(range(length, length + _PAD))
    return triangle(xp, xp.concat([*before, x, *after], axis=axis), axis)


def _slope(xp: Any, x: Array, axis: int) -> Array:
    """Return the central differences along an axis, 0 beyond the borders."""
    length = x.shape[axis]
    edge = xp.zeros_like(_cut(x, axis, 0, 1))
    ahead = xp.concat([_cut(x, axis, 1, length), edge], axis=axis)
    behind = xp.concat([edge, _cut(x, axis, 0, length - 1)], axis=axis)
    return (ahead - behind) * 0.5


def _magnitude(xp: Any, x: Array, triangle: Callable[..., Array]) -> Array:
    """Return the magnitude of the slope of the smoothed maps, over its largest value."""
    x = _smooth(xp, _smooth(xp, x, 2, triangle), 3, triangle)
    across, down = _slope(xp, x, 3), _slope(xp, x, 2)
    size = xp.sqrt(across * across + down * down + 1e-6)
    return size / xp.max(size)

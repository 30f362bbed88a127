"""Losses of the auxiliary heads of segmentation networks: point, scene and detail heads."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import entropies, maps, reduce
from arrayloss._core.call import public
from arrayloss._core.inputs import Inputs
from arrayloss._core.labels import mapped, read_map
from arrayloss._core.logits import class_axis_back
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import NEVER
from arrayloss._machines.namespace import device_of

A = TypeVar("A")
B = TypeVar("B")
Array = Any

#: The strides of the detail ground truth, and the weight of each in tenths: whole numbers compare exactly.
_STRIDES = {1: 6, 2: 3, 4: 1}
#: Nine labels below it, or differences of them, add up within 32 bits.
_TOO_LARGE = 2**27


@public
def point_cross_entropy_loss(
    logits: tuple[A, B],
    target: Any,
    *,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class at points of an image.

    With the two inputs point logits and points, class weights :math:`w` (``weight``),
    :math:`p = \mathrm{softmax}(\text{point logits})` and the label :math:`y` of the pixel that a point lies in, the
    loss of the point is

    .. math:: w_y\, (-\log p_y)

    Parameters
    ----------
    logits : tuple of two arrays, shapes (N, C, P) and (N, P, D)
        Unnormalised scores at P points of each image, the classes on ``axis``, and the points, both of a real floating
        dtype. A point is :math:`(x, y)` for images and :math:`(x, y, z)` for volumes, from 0 to 1 over the width,
        height and depth of the target. The gradient of the points is 0.
    target : array
        Label map of any integer dtype or bool, shape (N, \*S) or (N, 1, \*S) with D axes of space, (N, H, W) for
        images.
    ignore_index : int or None
        Label of pixels whose points count nowhere; None ignores nothing.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`w_y` of the valid points; "parts" returns (total, weight) with
        mean = total / weight; "none" is 0 where a point is ignored.
    axis : int
        The class axis of the point logits.

    Returns
    -------
    array
        0-d, or shape (N, P) for "none", of the library and on the device of the logits, in the dtype of the point
        logits, at least float32. 0 where no point is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, logits that are no tuple of two, or a dtype that does not fit.
    ValueError
        Shapes that do not fit, an option out of range, a point outside [0, 1], a label outside [0, C) at a point that
        is not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit, vmap and compile a
        wrong point or label makes the loss NaN.

    Notes
    -----
    The pixel of a point is :math:`(\lfloor x W \rfloor, \lfloor y H \rfloor)`, the last one where a coordinate is 1:
    that of ``grid_sample`` with ``mode="nearest"`` and ``align_corners=False``, but for points on the border of two
    pixels, which that rounds to the even one, and, at 1, to one beyond the image, which reads as class 0. PaddleSeg's
    PointCrossEntropyLoss, which reads labels so, further multiplies the loss with class weights by the index of the
    true class instead of its weight; without class weights it differs only by the 1e-8 that it adds to the mean number
    of valid points. Points in half precision are taken as they are, and tell apart no more than 2048 (float16) or 256
    (bfloat16) pixels along an axis. Labels that no point lies in are not looked at. Cost: cross entropy of the points.

    References
    ----------
    Kirillov, Wu, He, Girshick, PointRend: Image Segmentation as Rendering, CVPR 2020, sections 3.1 and 3.3 (training
    on selected points).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> scores, points = np.array([[[2.0, 0.0], [0.0, 0.0]]]), np.array([[[0.1, 0.9], [0.9, 0.1]]])
    >>> print(round(float(al.point_cross_entropy_loss((scores, points), np.array([[[255, 1], [0, 255]]]))), 4))
    0.41
    """
    inputs = maps.open_points("point_cross_entropy_loss", logits, target, axis, ignore_index)
    return entropies.reduced(inputs, inputs.per_class("weight", weight), 0.0, reduction)


class PointCrossEntropyLoss(Loss, function=point_cross_entropy_loss):
    """The options of `point_cross_entropy_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1


@public
def se_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a wrong answer to which classes an image holds (semantic encoding).

    With the score :math:`x_c` of class :math:`c` for an image (``logits``), class weights :math:`w` (``weight``), and
    :math:`t_c = 1` where a valid pixel of the image has the label :math:`c` and else 0,

    .. math:: w_c\, [t_c\, \mathrm{softplus}(-x_c) + (1 - t_c)\, \mathrm{softplus}(x_c)]

    Parameters
    ----------
    logits : array, shape (N, C) or (C,)
        A score of each class for each image, of a real floating dtype, the classes on ``axis``.
    target : array, shape (N, \*S), or of any shape for logits (C,)
        Label map of any integer dtype or bool and of any size: only which classes it holds counts.
    ignore_index : int or None
        Label of pixels that count nowhere; None ignores nothing.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by C times the number of images with a valid pixel; "parts" returns (total, weight) with
        mean = total / weight; "none" has the shape of the logits, 0 for an image without a valid pixel.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or the shape of the logits for "none", of the library and on the device of the logits, in their dtype, at
        least float32. 0 where no pixel is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    A class counts alike however small its area, which is the point of this loss. As in BCE, class weights do not enter
    the divisor. An image without a valid pixel is not counted, since what it holds is unknown. PaddleSeg's
    SECrossEntropyLoss takes no weight, and no account of its ``ignore_index``: a label that is no class is left out,
    whichever it is, and of an image without any other it calls every class absent. Cost: a count of the labels.

    References
    ----------
    Zhang et al., Context Encoding for Semantic Segmentation, CVPR 2018, section 3.1 (semantic encoding loss).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> scores = np.array([[2.0, 1.0, -3.0]])
    >>> print(round(float(al.se_cross_entropy_loss(scores, np.array([[[0, 0], [0, 255]]]))), 4))
    0.4963
    """
    inputs, present = maps.open_scenes("se_cross_entropy_loss", logits, target, axis, ignore_index)
    xp = inputs.xp
    class_weight = inputs.per_class("weight", weight)
    # A valid pixel has a class: an image that holds none has no valid pixel.
    seen = xp.any(present, axis=1)
    losses = _entropies(inputs, inputs.logits, _side(inputs, present), xp.expand_dims(seen, axis=1))
    if class_weight is not None:
        losses = inputs.scale(losses, xp.expand_dims(class_weight, axis=0))
    divisor = reduce.weight_of(inputs, None, seen, seen.shape, inputs.classes)
    losses = class_axis_back(xp, losses, inputs.axis if inputs.batched else 1)
    return reduce.positions(inputs, losses, divisor, reduction)


class SECrossEntropyLoss(Loss, function=se_cross_entropy_loss):
    """The options of `se_cross_entropy_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1


@public
def detail_aggregate_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    threshold: float = 0.1,
    smooth: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise details (boundaries and corners of the label map) that are missed, or predicted where there are none.

    With the scores :math:`x` (``logits``), :math:`p = 1 / (1 + e^{-x})` and the detail ground truth :math:`g`
    (`detail_targets` of ``target``, with ``threshold``), the loss is binary cross entropy and Dice of squares,

    .. math::

        \underset{i}{\mathrm{mean}}\, [g_i\, \mathrm{softplus}(-x_i) + (1 - g_i)\, \mathrm{softplus}(x_i)]
        + \underset{n}{\mathrm{mean}} \left[ 1 - \frac{2 \sum p_i g_i + \text{smooth}}{\sum p_i^2 + \sum g_i^2
        + \text{smooth}} \right]

    over the valid pixels :math:`i` of the batch, and the images :math:`n` with sums over their valid pixels.

    Parameters
    ----------
    logits : array, shape (N, 1, H, W)
        A score for each pixel, of a real floating dtype, with a class axis of length 1 on ``axis``.
    target : array, shape (N, H, W), or with a class axis of length 1
        Label map of any integer dtype or bool, of any number of classes.
    ignore_index : int or None
        Label of pixels that count nowhere and are nobody's other label; None ignores nothing.
    threshold : float in [0, 1]
        Of the detail ground truth; see `detail_targets`.
    smooth : float, at least 0
        Added to numerator and denominator of Dice, in pixels.
    reduction : "mean", "sum" or "none"
        "none" is the loss of each image on its own (its binary cross entropy divided by its own number of valid
        pixels), and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N,) for "none", of the library and on the device of the logits, in their dtype, at least float32.
        0 where no pixel is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that do not fit, an option out of range, or labels of 2^27 and more; any smaller label fits.

    Notes
    -----
    A wholly ignored image is left out of the mean of Dice, and is 0 in "none". Dice is 0 where it is 0/0.
    Dice sums squares, as the paper has it; the code of its authors and PaddleSeg's sum :math:`p` and :math:`g`
    themselves. The latter's DetailAggregateLoss also fuses by weights drawn at random, where the authors start from
    6/10, 3/10 and 1/10, and takes ignored pixels for a class of their own. Both enlarge logits smaller than the
    target; here the sizes must agree. Cost: that of `detail_targets`, and two passes over the scores.

    References
    ----------
    Fan et al., Rethinking BiSeNet For Real-time Semantic Segmentation, CVPR 2021, section 3.3 (detail loss, and Dice
    with Laplace smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]])
    >>> print(round(float(al.detail_aggregate_loss(np.zeros((1, 1, 4, 4)), target)), 4))
    1.3598
    """
    library, x, labels, axis = maps.open_map_of_one_score("detail_aggregate_loss", logits, target, axis)
    detail, valid = _details("detail_aggregate_loss", library, labels, threshold, ignore_index)
    inputs = Inputs("detail_aggregate_loss", library, x, None, None, valid, None, axis, True)
    side = _side(inputs, detail)
    losses = _entropies(inputs, library.xp.squeeze(x, axis=1), side, valid)
    dice = _dice_of_squares(inputs, losses, side, smooth)
    each = _image_sums(library.xp, losses)
    if reduction == "mean":
        weight = reduce.weight_of(inputs, None, valid, losses.shape)
        both = reduce.ratio(inputs, library.xp.sum(each), weight)
        images = reduce.weight_of(inputs, None, inputs.seen, tuple(dice.shape))
        both = both + reduce.ratio(inputs, library.xp.sum(dice), images)
        return reduce.finish(inputs, both)
    counts = float(losses.shape[1] * losses.shape[2])
    if valid is not None:
        counts = _image_sums(library.xp, library.xp.astype(valid, x.dtype))
    return reduce.positions(inputs, reduce.ratio(inputs, each, counts) + dice, 0.0, reduction)


class DetailAggregateLoss(Loss, function=detail_aggregate_loss):
    """The options of `detail_aggregate_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    threshold: float = 0.1
    smooth: float = 1.0
    reduction: str = "mean"
    axis: int = 1


def _side(inputs: Inputs, true: Array) -> Array:
    """Return -1 where `true` and else 1, in the dtype of the logits."""
    return 1.0 - 2.0 * inputs.xp.astype(true, inputs.logits.dtype)


def _entropies(inputs: Inputs, x: Array, side: Array, valid: Array | None) -> Array:
    """Return the binary cross entropy of scores against the side of each, 1 for no and -1 for yes; 0 where not valid.

    One softplus of the score for what is not true: nothing cancels, and an infinite score makes no 0 * inf.
    """
    xp, k = inputs.xp, inputs.kernels
    return k.softplus(xp, k.where_or(xp, valid, x * side, NEVER))


def _dice_of_squares(inputs: Inputs, losses: Array, side: Array, smooth: float) -> Array:
    """Return the Dice loss of each image from the binary cross entropies of its pixels, and their sides."""
    xp, k = inputs.xp, inputs.kernels
    g = 0.5 - 0.5 * side
    # exp(-loss) is the probability of what is true; that of an ignored pixel, without detail and of loss 0, is 1.
    right, wrong = xp.exp(-losses), -xp.expm1(-losses)
    p = right * g + wrong * (1.0 - g)
    # 1 less the ratio of twice the overlap, which would cancel: the squares of what is wrong are what is left.
    whole = _image_sums(xp, p * p + g) + smooth
    there = ~(whole <= 0.0)  # with a NaN, which must reach the result
    return k.where_or(xp, there, _image_sums(xp, wrong * wrong) / k.where_or(xp, there, whole, 1.0), 0.0)


def _image_sums(xp: Any, x: Array) -> Array:
    """Return the sum over each image `(N, H, W)`, by rows first: a long running sum in float32 drifts."""
    return xp.sum(xp.sum(x, axis=2), axis=1)


@public
def detail_targets(target: A, threshold: float = 0.1, ignore_index: int | None = 255) -> A:
    r"""Return the detail ground truth of a label map: 1 at boundaries and corners, else 0.

    Parameters
    ----------
    target : array, shape (N, H, W)
        Label map of any integer dtype or bool.
    threshold : float in [0, 1]
        What the fused map must exceed. The fused values are the sums of 6/10, 3/10 and 1/10: at the default 0.1 a
        pixel is a detail where stride 1 or stride 2 finds one, below it also where stride 4 does.
    ignore_index : int or None
        Label of pixels that keep it and are nobody's other label.

    Returns
    -------
    array, shape (N, H, W)
        In the dtype of the target (uint8 for bool), 1 at details, 0 elsewhere and `ignore_index` where ignored.

    Raises
    ------
    TypeError
        `target` is no array of integers or bool.
    ValueError
        `target` has another rank or labels of 2^27 and more, or `threshold` is out of range.

    Notes
    -----
    The labels are convolved as numbers with the Laplacian kernel (8 in the middle of eight -1) at strides 1, 2 and 4;
    responses above 0 become 1; the maps of strides 2 and 4 are enlarged to the full size, each pixel from the
    :math:`\lfloor i h / H \rfloor`-th of the h rows, columns alike; and the sum of the three with weights 6/10, 3/10
    and 1/10 is compared with the threshold. A response is positive where a label is larger than its eight neighbours
    on average, hence on one side of a boundary as a rule. A difference with an ignored neighbour counts 0, as does the
    response of an ignored pixel. Beyond the image counts as label 0 (the zero padding of the authors' code), so that
    other classes have details at the border. Labels, ignored ones included, must be smaller than 2^27, since they are
    added up in 32 bits; larger ones raise where they can be read. Cost: about twenty passes over the label map.

    References
    ----------
    Fan et al., Rethinking BiSeNet For Real-time Semantic Segmentation, CVPR 2021, section 3.3; weights, padding and
    the threshold of the responses as in the code of its authors.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.detail_targets(np.array([[[0, 0, 0, 0, 1, 1, 1, 1]] * 5]))[0, 2])
    [0 0 0 0 1 1 0 1]
    """
    result: A = mapped(
        "detail_targets",
        target,
        lambda library, labels: _details("detail_targets", library, labels, threshold, ignore_index),
    )
    return result


def _details(
    function: str, library: Any, labels: Array, threshold: float, ignore_index: int | None
) -> tuple[Array, Array | None]:
    """Return the boolean detail map of `(N, H, W)` labels, False where ignored, and the mask of valid pixels."""
    xp = library.xp
    labels, valid, read = read_map(function, library, labels, ignore_index)
    read = library.kernels.host_range(labels) if read is None else read
    if read is not None and max(-read[0], read[1]) >= _TOO_LARGE:
        raise ValueError(
            f"{function}: target holds labels from {read[0]} to {read[1]}, expected labels that are smaller than "
            f"2^27, since they are added up in 32 bits"
        )
    if math.prod(labels.shape) == 0:
        return labels != labels, valid
    y = xp.astype(labels, xp.int32)
    y = y if valid is None else xp.where(valid, y, xp.zeros_like(y))
    # The sum of the differences y_i - y_j over the neighbours j that count, and i itself, where it is 0.
    near = 9 if valid is None else _window_sums(xp, xp.astype(valid, y.dtype), beyond=1)
    found = y * near > _window_sums(xp, y, beyond=0)
    found = found if valid is None else found & valid
    fused = sum(xp.astype(_at_stride(xp, found, s), xp.uint8) * tenths for s, tenths in _STRIDES.items())
    needed = next(n for n in range(12) if n / 10 > threshold)
    detail = fused >= needed
    return detail if valid is None else detail & valid, valid


def _window_sums(xp: Any, x: Array, beyond: int) -> Array:
    """Return the sums of the 3 x 3 windows around the pixels of `(N, H, W)`, with a number beyond the image."""
    for axis in (1, 2):
        length = x.shape[axis]
        rim = xp.full_like(_rows(x, axis, 0, 1), beyond)
        x = xp.concat([rim, x, rim], axis=axis)
        x = _rows(x, axis, 0, length) + _rows(x, axis, 1, length + 1) + _rows(x, axis, 2, length + 2)
        beyond *= 3
    return x


def _rows(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[tuple(slice(start, stop) if i == axis else slice(None) for i in range(3))]


def _at_stride(xp: Any, found: Array, stride: int) -> Array:
    """Return a map `(N, H, W)` as every `stride`-th pixel has it, enlarged to the full size by the nearest."""
    if stride == 1:
        return found
    sizes = found.shape
    found = found[:, ::stride, ::stride]
    # Columns first, while there are few rows: selecting among those is cheap.
    for axis in (2, 1):
        index = xp.arange(sizes[axis], dtype=xp.int32, device=device_of(found))
        found = xp.take(found, index * found.shape[axis] // max(sizes[axis], 1), axis=axis)
    return found

"""Losses of whole regions: overlap of the predicted and the true area of each class in each image."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss import _inputs, _reduce
from arrayloss._loss import Loss
from arrayloss._options import check

A = TypeVar("A")


def dice_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    smooth: float = 0.0,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small overlap between the predicted and the true region of each class in each image.

    With :math:`p = \mathrm{softmax}(\text{logits})`, the one-hot target :math:`t` and sums over the valid positions of
    image :math:`n`,

    .. math:: d_{nc} = 1 - \frac{2 \sum p_c t_c + \text{smooth}}{\sum p_c + \sum t_c + \text{smooth}}

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities
        in [0, 1] of a real floating dtype in the shape of the logits, which are then :math:`t`.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    smooth : float, at least 0
        Added to numerator and denominator, in pixels.
    weight : sequence or array of C non-negative numbers, optional
        Weight of each class.
    reduction : "mean", "sum" or "none"
        "mean" is the mean over the images and then over the classes, weighted by ``weight``; "none" gives
        :math:`w_c d_{nc}` in shape (N, C), and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, C) for "none", of the library and on the device of the logits, in their dtype, at least
        float32.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that do not fit, an option out of range, a label outside [0, C) that is not ignored, or
        ``ignore_index=255`` with more than 255 classes. Where reading labels would cost a synchronisation (GPU) or is
        impossible (jit, vmap, compile), a wrong label makes the loss NaN instead.

    Notes
    -----
    A class that is 0/0 in an image (``smooth=0``, nothing predicted, nothing there) has :math:`d = 0` and gradient 0.
    A wholly ignored image counts as 0, and N still counts it. An absent class with ``smooth=0`` has :math:`d = 1`
    however little of it is predicted, with gradient 0: ``smooth=1`` is the common remedy.

    References
    ----------
    Milletari, Navab, Ahmadi, V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation,
    3DV 2016, section 3 (there with squared terms in the denominator); this form: Sudre et al., Generalised Dice
    Overlap as a Deep Learning Loss Function for Highly Unbalanced Segmentations, DLMIA 2017, equation for DL2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.dice_loss(logits, np.array([[0, 1, 1]]))), 4))
    0.3333
    """
    options = check(
        "dice_loss", ignore_index=ignore_index, smooth=smooth, weight=weight, reduction=reduction, axis=axis
    )
    inputs = _inputs.open_classes(
        "dice_loss",
        logits,
        target,
        axis=options["axis"],
        ignore_index=options["ignore_index"],
        probabilities=True,
    )
    xp, k = inputs.xp, inputs.kernels
    class_weight = inputs.per_class("weight", options["weight"])
    if inputs.labels is None:
        p = k.softmax(xp, inputs.logits, inputs.valid)
        overlap, predicted = k.sum_positions(xp, p * inputs.target), k.sum_positions(xp, p)
        true = k.sum_positions(xp, inputs.target)
    else:
        sums = k.softmax_sums(xp, inputs.logits, inputs.labels, inputs.valid)
        overlap, predicted = sums[0, ...], sums[1, ...]
        true = k.label_counts(xp, inputs.labels, inputs.valid, inputs.classes, sums.dtype)
    size = predicted + true + options["smooth"]
    there = ~(size <= 0.0)  # with a NaN, which must reach the result
    losses = 1.0 - (2.0 * overlap + options["smooth"]) / k.where_or(xp, there, size, 1.0)
    return _reduce.regions(inputs, k.where_or(xp, there, losses, 0.0), class_weight, options["reduction"])


class DiceLoss(Loss, function=dice_loss):
    """The options of `dice_loss`, bound."""

    ignore_index: int | None = 255
    smooth: float = 0.0
    _: KW_ONLY
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1

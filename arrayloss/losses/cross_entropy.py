"""Cross entropy over classes."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import entropies, reduce, select
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.loss import Loss

A = TypeVar("A")
Array = Any


@public
def cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = 255,
    top_k_percent_pixels: float = 1.0,
    label_smoothing: float = 0.0,
    pixel_weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class.

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})`, class weights :math:`w`
    (``weight``), label smoothing :math:`s` (``label_smoothing``) and :math:`C` classes, the loss of a position is

    .. math:: (1 - s)\, w_y\, (-\log p_y) + \frac{s}{C} \sum_c w_c\, (-\log p_c)

    and with target probabilities :math:`t` it is :math:`-\sum_c w_c\, t'_c \log p_c` with
    :math:`t' = (1 - s)\, t + s / C`; ``pixel_weight`` multiplies either.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    top_k_percent_pixels : float in [0, 1]
        Below 1, only the k = int(top_k_percent_pixels * positions in the batch) largest weighted losses count, with
        all that tie with the last of them. Ignored positions are counted in k but never selected.
    label_smoothing : float in [0, 1]
        Share of the target that is spread evenly over the classes.
    pixel_weight : array in the shape of the positions, optional
        Non-negative weight of each position.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`w_y` (times ``pixel_weight``) of what counts, and with
        probability targets by the number of positions that count (the sum of ``pixel_weight``). "parts" returns
        (total, weight) with mean = total / weight. "none" is 0 where a position does not count.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in their dtype, at least
        float32. 0 where nothing counts.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    The mean equals that of ``torch.nn.CrossEntropyLoss`` wherever both are defined, and its default differs:
    ``ignore_index`` is 255. A weight of 0 takes out even an infinite loss. The selection of ``top_k_percent_pixels``
    is a constant to differentiation. Cost: a pass over the logits forward, one backward.

    References
    ----------
    Label smoothing: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7.
    Top-k: Wu et al., Bridging Category-level and Instance-level Semantic Image Segmentation, 2016, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    >>> print(round(float(al.cross_entropy_loss(logits, np.array([0, 1, 255]))), 4))
    0.41
    """
    pixel_weights = {"pixel_weight": pixel_weight}
    inputs = open_classes(
        "cross_entropy_loss", logits, target, axis, ignore_index, probabilities=True, weights=pixel_weights
    )
    losses, weights = entropies.of_classes(inputs, inputs.per_class("weight", weight), label_smoothing)
    return reduce_pixels(inputs, losses, weights, pixel_weight, top_k_percent_pixels, reduction)


def reduce_pixels(
    inputs: Inputs, losses: Array, weights: Array | None, pixel_weight: Any, share: float, reduction: str
) -> Any:
    """Reduce weighted losses of positions, times a weight of each if there is one, to that share which is largest."""
    if pixel_weight is not None:
        pixel = inputs.per_position("pixel_weight", pixel_weight)
        losses = inputs.scale(losses, pixel)
        weights = pixel if weights is None else weights * pixel
    kept = inputs.valid
    if share < 1.0:
        kept = select.largest(inputs, losses, int(share * math.prod(losses.shape)))
        losses = inputs.kernels.where_or(inputs.xp, kept, losses, 0.0)
    return reduce.positions(inputs, losses, reduce.weight_of(inputs, weights, kept, losses.shape), reduction)


class CrossEntropyLoss(Loss, function=cross_entropy_loss):
    """The options of `cross_entropy_loss`, bound."""

    weight: Any = None
    ignore_index: int | None = 255
    top_k_percent_pixels: float = 1.0
    _: KW_ONLY
    label_smoothing: float = 0.0
    reduction: str = "mean"
    axis: int = 1

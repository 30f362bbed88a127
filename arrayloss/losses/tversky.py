"""Jaccard and Tversky losses: overlap of regions, with a price for each kind of error."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.areas import open_areas
from arrayloss._core.call import public
from arrayloss._core.loss import Loss

A = TypeVar("A")


@public
def jaccard_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    smooth: float = 0.0,
    weight: Any = None,
    activation: str | None = "softmax",
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small intersection over union of the predicted and the true region of each class in each image.

    With :math:`p` as ``activation`` makes it of the logits, the one-hot target :math:`t` and sums over the valid
    positions of image :math:`n` (of the batch with ``batch``),

    .. math:: d_{nc} = 1 - \frac{\sum p_c t_c + \text{smooth}}{\sum p_c + \sum t_c - \sum p_c t_c + \text{smooth}}

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits, which are then :math:`t`.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore, but
        with another activation than "softmax" an entry equal to it is ignored.
    smooth : float, at least 0
        Added to numerator and denominator, in pixels.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    activation : "softmax", "sigmoid" or None
        What makes :math:`p` of the logits; None takes them as probabilities in [0, 1]. With "sigmoid" and None every
        class is a question of its own: a target in the shape of the logits has an entry in [0, 1] for each, of any real
        dtype, and with a single class a label map is such a target.
    batch : bool
        Whether sums run over the whole batch before the ratio, as if it were one image.
    include_background : bool
        Whether class 0 counts; it stays in the softmax where not.
    squared : bool
        Whether the areas are :math:`\sum p^2` and :math:`\sum t^2`.
    reduction : "mean", "sum" or "none"
        "mean" is the mean over the images and the classes, weighted by ``weight``; "none" gives :math:`w_c d_{nc}` in
        shape (N, C), or (C,) with ``batch``, and "sum" is the sum of that.
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
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label or probability makes the loss NaN.

    Notes
    -----
    A class that is 0/0 in an image (``smooth=0``, nothing predicted, nothing there) has :math:`d = 0` and gradient 0.
    Ignored images and classes of images as in `dice_loss`. Where every probability is 0 or 1, :math:`d` is 1 minus the
    intersection over union. It orders predictions as Dice does, :math:`d = 2 D / (1 + D)` of the Dice loss :math:`D`;
    `lovasz_softmax_loss` is the other way to make that ratio differentiable.

    References
    ----------
    Rahman, Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016,
    equations 3 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.jaccard_loss(logits, np.array([[0, 1, 1]]))), 4))
    0.5
    """
    areas = open_areas(
        "jaccard_loss", logits, target, axis, ignore_index, activation, batch, include_background, squared
    )
    overlap, both = areas.overlap, areas.predicted + areas.true
    losses = reduce.one_minus(areas.inputs, overlap + smooth, both - overlap + smooth)
    return areas.reduce(losses, weight, reduction)


class JaccardLoss(Loss, function=jaccard_loss):
    """The options of `jaccard_loss`, bound."""

    ignore_index: int | None = 255
    smooth: float = 0.0
    _: KW_ONLY
    weight: Any = None
    activation: str | None = "softmax"
    batch: bool = False
    include_background: bool = True
    squared: bool = False
    reduction: str = "mean"
    axis: int = 1


@public
def tversky_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 0.0,
    gamma: float = 1.0,
    weight: Any = None,
    activation: str | None = "softmax",
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise false positives and false negatives of each class in each image, each at a price of its own.

    With :math:`p` as ``activation`` makes it of the logits, the one-hot target :math:`t` and sums over the valid
    positions of image :math:`n` (of the batch with ``batch``),

    .. math:: d_{nc} = \left(1 - \frac{\sum p_c t_c + \text{smooth}}
        {\sum p_c t_c + \alpha \sum p_c (1 - t_c) + \beta \sum (1 - p_c)\, t_c + \text{smooth}}\right)^\gamma

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits, which are then :math:`t`.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore, but
        with another activation than "softmax" an entry equal to it is ignored.
    alpha : float, at least 0
        Price of a false positive.
    beta : float, at least 0
        Price of a false negative.
    smooth : float, at least 0
        Added to numerator and denominator, in pixels.
    gamma : float, above 0
        Exponent of each region's loss; another than 1 makes it the focal Tversky loss.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    activation : "softmax", "sigmoid" or None
        What makes :math:`p` of the logits; None takes them as probabilities in [0, 1]. With "sigmoid" and None every
        class is a question of its own: a target in the shape of the logits has an entry in [0, 1] for each, of any real
        dtype, and with a single class a label map is such a target.
    batch : bool
        Whether sums run over the whole batch before the ratio, as if it were one image.
    include_background : bool
        Whether class 0 counts; it stays in the softmax where not.
    squared : bool
        Whether the areas are :math:`\sum p^2` and :math:`\sum t^2`.
    reduction : "mean", "sum" or "none"
        "mean" is the mean over the images and the classes, weighted by ``weight``; "none" gives :math:`w_c d_{nc}` in
        shape (N, C), or (C,) with ``batch``, and "sum" is the sum of that.
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
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label or probability makes the loss NaN.

    Notes
    -----
    A class that is 0/0 in an image (``smooth=0``, nothing predicted, nothing there) has :math:`d = 0` and gradient 0.
    Ignored images and classes of images as in `dice_loss`. With ``alpha = beta = 0.5`` it is `dice_loss` of
    twice the ``smooth``, with ``alpha = beta = 1`` it is `jaccard_loss`. A perfect region has gradient 0 with any
    ``gamma``. The focal exponent here is that of segmentation_models_pytorch; the paper writes :math:`1 / \gamma`.
    With ``squared`` the errors are :math:`\sum \max(p_c - t_c, 0)^2` and :math:`\sum \max(t_c - p_c, 0)^2`: never
    negative, and the two identities hold as they stand.

    References
    ----------
    Salehi, Erdogmus, Gholipour, Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
    Networks, MLMI 2017, equation 4. Focal: Abraham, Khan, A Novel Focal Tversky Loss Function with Improved Attention
    U-Net for Lesion Segmentation, ISBI 2019, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.tversky_loss(logits, np.array([[0, 1, 1]]), alpha=0.3, beta=0.7)), 4))
    0.3213
    """
    areas = open_areas(
        "tversky_loss", logits, target, axis, ignore_index, activation, batch, include_background, squared
    )
    false_positive, false_negative = areas.errors()
    false, overlap = false_positive * alpha + false_negative * beta, areas.overlap
    losses = reduce.one_minus(areas.inputs, overlap + smooth, overlap + false + smooth)
    return areas.reduce(losses if gamma == 1.0 else areas.power(losses, gamma), weight, reduction)


class TverskyLoss(Loss, function=tversky_loss):
    """The options of `tversky_loss`, bound."""

    alpha: float = 0.5
    beta: float = 0.5
    smooth: float = 0.0
    ignore_index: int | None = 255
    _: KW_ONLY
    gamma: float = 1.0
    weight: Any = None
    activation: str | None = "softmax"
    batch: bool = False
    include_background: bool = True
    squared: bool = False
    reduction: str = "mean"
    axis: int = 1

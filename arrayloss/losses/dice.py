"""Dice losses: overlap of the predicted and the true region of each class in each image."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.areas import Areas, open_areas
from arrayloss._core.call import public
from arrayloss._core.loss import Loss

A = TypeVar("A")
Array = Any


@public
def dice_loss(
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
    r"""Penalise a small overlap between the predicted and the true region of each class in each image.

    With :math:`p` as ``activation`` makes it of the logits, the one-hot target :math:`t` and sums over the valid
    positions of image :math:`n` (of the batch with ``batch``),

    .. math:: d_{nc} = 1 - \frac{2 \sum p_c t_c + \text{smooth}}{\sum p_c + \sum t_c + \text{smooth}}

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
    A wholly ignored image, or where entries are ignored one by one a wholly ignored class of an image, is left out of
    the mean, and is 0 in "none". An absent class with ``smooth=0`` has :math:`d = 1` however little of it is predicted,
    with gradient 0: ``smooth=1`` is the common remedy. With ``squared`` this is the form of V-Net, and ``batch`` is
    nnU-Net's ``batch_dice``.

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
    areas = open_areas("dice_loss", logits, target, axis, ignore_index, activation, batch, include_background, squared)
    return reduced(areas, smooth, weight, reduction)


def reduced(areas: Areas, smooth: float, weight: Any, reduction: str) -> Any:
    """Return the Dice loss of areas, reduced."""
    return areas.reduce(_each(areas, smooth), weight, reduction)


def _each(areas: Areas, smooth: float) -> Array:
    return reduce.one_minus(areas.inputs, 2.0 * areas.overlap + smooth, areas.predicted + areas.true + smooth)


class DiceLoss(Loss, function=dice_loss):
    """The options of `dice_loss`, bound."""

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
def generalized_dice_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    weight_type: str = "square",
    smooth: float = 0.0,
    activation: str | None = "softmax",
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small overlap of all classes of an image together, rare classes counting as much as common ones.

    With :math:`p` as ``activation`` makes it of the logits, the one-hot target :math:`t` and sums over the valid
    positions of image :math:`n` (of the batch with ``batch``),

    .. math:: d_n = 1 - \frac{2 \sum_c w_{nc} \sum p_c t_c + \text{smooth}}
        {\sum_c w_{nc} \left(\sum p_c + \sum t_c\right) + \text{smooth}}

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
    weight_type : "square", "simple" or "uniform"
        What :math:`w_{nc}` is of the true area :math:`T_{nc} = \sum t_c`: :math:`1 / T^2`, :math:`1 / T` or 1.
    smooth : float, at least 0
        Added to numerator and denominator, in weighted pixels.
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
        "mean" is the mean over the images; "none" gives :math:`d_n` in shape (N,), or () with ``batch``, and "sum" is
        the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N,) for "none", of the library and on the device of the logits, in their dtype, at least float32.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label or probability makes the loss NaN.

    Notes
    -----
    A class that is absent from an image has no :math:`w` of its own and takes the largest of the classes that are
    there, as in MONAI. An image without any of the classes that count has :math:`d = 0` and gradient 0. A wholly
    ignored image is left out of the mean, and is 0 in "none". The weights are constants to differentiation.

    References
    ----------
    Sudre, Li, Vercauteren, Ourselin, Cardoso, Generalised Dice Overlap as a Deep Learning Loss Function for Highly
    Unbalanced Segmentations, DLMIA 2017, section 2, equation for GDL. Weights: Crum, Camara, Hill, Generalized Overlap
    Measures for Evaluation and Validation in Medical Image Analysis, TMI 2006, section II-C.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.generalized_dice_loss(logits, np.array([[0, 1, 1]]))), 4))
    0.3333
    """
    areas = open_areas(
        "generalized_dice_loss", logits, target, axis, ignore_index, activation, batch, include_background, squared
    )
    xp, weights = areas.inputs.xp, areas.inverse_areas(weight_type)
    overlap = xp.sum(areas.overlap * weights, axis=1)
    both = xp.sum((areas.predicted + areas.true) * weights, axis=1)
    losses = reduce.one_minus(areas.inputs, 2.0 * overlap + smooth, both + smooth)
    return areas.reduce_images(losses, reduction)


class GeneralizedDiceLoss(Loss, function=generalized_dice_loss):
    """The options of `generalized_dice_loss`, bound."""

    weight_type: str = "square"
    smooth: float = 0.0
    ignore_index: int | None = 255
    _: KW_ONLY
    activation: str | None = "softmax"
    batch: bool = False
    include_background: bool = True
    squared: bool = False
    reduction: str = "mean"
    axis: int = 1


@public
def log_cosh_dice_loss(
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
    r"""Penalise a small overlap as Dice does, more gently near the perfect one.

    With :math:`p` as ``activation`` makes it of the logits, the one-hot target :math:`t` and sums over the valid
    positions of image :math:`n` (of the batch with ``batch``),

    .. math:: \log \cosh \left(1 - \frac{2 \sum p_c t_c + \text{smooth}}{\sum p_c + \sum t_c + \text{smooth}}\right)

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
        "mean" is the mean over the images and the classes, weighted by ``weight``; "none" gives
        :math:`w_c \log \cosh d_{nc}` in shape (N, C), or (C,) with ``batch``, and "sum" is the sum of that.
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
    Each region's Dice loss :math:`d_{nc}` is taken by itself, so that "none" sums to "sum"; the paper has one region.
    Classes that are 0/0 and ignored images as in `dice_loss`.

    References
    ----------
    Jadon, A survey of loss functions for semantic segmentation, CIBCB 2020, section II-L, equation for LCDL.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.log_cosh_dice_loss(logits, np.array([[0, 1, 1]]))), 4))
    0.0546
    """
    areas = open_areas(
        "log_cosh_dice_loss", logits, target, axis, ignore_index, activation, batch, include_background, squared
    )
    # log cosh d = log(1 + 2 sinh(d / 2)^2), which keeps its digits where d is small.
    xp = areas.inputs.xp
    half = xp.sinh(_each(areas, smooth) * 0.5)
    return areas.reduce(xp.log1p(2.0 * half * half), weight, reduction)


class LogCoshDiceLoss(Loss, function=log_cosh_dice_loss):
    """The options of `log_cosh_dice_loss`, bound."""

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

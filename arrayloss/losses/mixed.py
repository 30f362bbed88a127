"""Weighted sums of losses: any, and two pairs by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, replace
from operator import add, mul
from typing import Any, TypeVar

from arrayloss._core import entropies
from arrayloss._core.areas import areas_of
from arrayloss._core.call import public, public_caller, quietly
from arrayloss._core.classes import open_binary, open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.library import library_of
from arrayloss._core.logits import class_axis_to_1
from arrayloss._core.loss import Loss
from arrayloss.losses import binary, dice

A = TypeVar("A")
Array = Any


@public_caller
def mixed_loss(
    logits: A, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float], reduction: str | None = None
) -> A:
    r"""Penalise what several losses penalise, in given proportions.

    With losses :math:`L_i` (``losses``) and coefficients :math:`a_i` (``coef``), :math:`\sum_i a_i L_i`.

    Parameters
    ----------
    logits : array
        As the losses take it.
    target : array
        As the losses take it.
    losses : sequence of losses
        Loss objects, or anything called as ``loss(logits, target)``.
    coef : sequence of numbers
        One for each loss.
    reduction : str, optional
        Given, it replaces the reduction of every loss, which must then be loss objects; None leaves each its own.
        "none" and "parts" need losses whose results have one shape and one divisor; "parts" is refused.

    Returns
    -------
    array
        The sum, of the library and on the device of the logits.

    Raises
    ------
    TypeError
        ``losses`` holds something that cannot be called, or ``reduction`` is given with one that has none.
    ValueError
        There is not one coefficient for each loss; and whatever the losses raise.

    Notes
    -----
    ``MixedLoss.terms`` gives the terms :math:`a_i L_i` one by one, for logging.

    References
    ----------
    Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> x, y = np.array([1.0, 4.0]), np.array([2.0, 2.0])
    >>> print(float(al.mixed_loss(x, y, losses=[al.L1Loss(), al.MSELoss()], coef=[1.0, 0.5])))
    2.75
    """
    terms = _terms(logits, target, losses, coef, reduction)
    total = terms[0]
    for term in terms[1:]:
        total = quietly(add, total, term)
    value: A = library_of(total).kernels.as_array(total)
    return value


def _terms(logits: Any, target: Any, losses: Any, coef: Any, reduction: str | None) -> list[Any]:
    if len(losses) != len(coef):
        raise ValueError(f"mixed_loss: coef has {len(coef)} numbers, expected {len(losses)}, one for each of losses")
    if reduction is not None:
        losses = [replace(loss, reduction=reduction) for loss in losses]
    as_array = None
    terms = []
    for loss, a in zip(losses, coef, strict=True):
        value = loss(logits, target)
        if isinstance(value, tuple):
            raise ValueError(
                f'mixed_loss: {loss!r} returns the two parts of a mean, expected reduction "mean" or "sum"'
            )
        as_array = as_array or library_of(value).kernels.as_array
        terms.append(as_array(quietly(mul, value, a)))
    return terms


class MixedLoss(Loss, function=mixed_loss):
    """The options of `mixed_loss`, bound."""

    losses: Sequence[Callable[..., Any]]
    coef: Sequence[float]
    _: KW_ONLY
    reduction: str | None = None

    def terms(self, logits: A, target: Any) -> list[A]:
        """Return the terms of the sum, coef_i * losses_i(logits, target), in the order of `losses`."""
        return _terms(logits, target, self.losses, self.coef, self.reduction)


@public
def dice_ce_loss(
    logits: A,
    target: Any,
    *,
    lambda_ce: float = 1.0,
    lambda_dice: float = 1.0,
    smooth: float = 0.0,
    ignore_index: int | None = 255,
    weight: Any = None,
    label_smoothing: float = 0.0,
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small overlap of regions and a low probability of the true class, together.

    .. math:: \lambda_{\text{ce}}\, L_{\text{ce}} + \lambda_{\text{dice}}\, L_{\text{Dice}}

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities
        in [0, 1] of a real floating dtype in the shape of the logits.
    smooth : float, at least 0
        Added to numerator and denominator of Dice, in pixels.
    lambda_ce : float, at least 0
        Factor of the cross entropy.
    lambda_dice : float, at least 0
        Factor of the Dice loss.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    weight : sequence or array of C finite numbers, optional
        Weight of each class, in both terms.
    label_smoothing : float in [0, 1]
        Share of the target of the cross entropy that is spread evenly over the classes.
    batch : bool
        Whether the sums of Dice run over the whole batch before the ratio.
    include_background : bool
        Whether class 0 counts in Dice.
    squared : bool
        Whether the areas of Dice are sums of squares.
    reduction : "mean", "sum" or "none"
        That of both terms; "none" gives each image's share of the "sum", and has none to give with ``batch``.
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
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Equal to the sum of `cross_entropy_loss` and `dice_loss` with these options. MONAI's DiceCELoss has ``smooth`` at
    1e-5.

    References
    ----------
    Taghanaki et al., Combo loss: Handling input and output imbalance in multi-organ segmentation, CMIG 2019, section
    2.2, for the sum; Isensee et al., nnU-Net, Nature Methods 2021, online methods, for this pair with equal factors.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits, target = np.array([[[2.0, 0.0], [0.0, 1.0]]]), np.array([[0, 1]])
    >>> print(round(float(al.dice_ce_loss(logits, target)), 4))
    0.4153
    """
    inputs = open_classes("dice_ce_loss", logits, target, axis, ignore_index, probabilities=True)
    areas = areas_of(inputs, "softmax", batch, include_background, squared)
    overlap = dice.reduced(areas, smooth, weight, reduction)
    entropy = entropies.reduced(inputs, inputs.per_class("weight", weight), label_smoothing, reduction)
    return _both(inputs, entropy * lambda_ce, overlap * lambda_dice, batch, reduction)


class DiceCELoss(Loss, function=dice_ce_loss):
    """The options of `dice_ce_loss`, bound."""

    lambda_ce: float = 1.0
    lambda_dice: float = 1.0
    smooth: float = 0.0
    ignore_index: int | None = 255
    _: KW_ONLY
    weight: Any = None
    label_smoothing: float = 0.0
    batch: bool = False
    include_background: bool = True
    squared: bool = False
    reduction: str = "mean"
    axis: int = 1


@public
def bce_dice_loss(
    logits: A,
    target: Any,
    *,
    lambda_bce: float = 1.0,
    lambda_dice: float = 1.0,
    smooth: float = 0.0,
    ignore_index: int | None = 255,
    pos_weight: Any = None,
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small overlap of regions and a wrong yes or no at each pixel, together, every class on its own.

    .. math:: \lambda_{\text{bce}}\, L_{\text{BCE}} + \lambda_{\text{dice}}\, L_{\text{Dice}}

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Entries in [0, 1] in the shape of the logits, of any real dtype, and with a single class also without the class
        axis; or class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    smooth : float, at least 0
        Added to numerator and denominator of Dice, in pixels.
    lambda_bce : float, at least 0
        Factor of the binary cross entropy.
    lambda_dice : float, at least 0
        Factor of the Dice loss.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. In the shape of the logits each entry is
        ignored by itself.
    pos_weight : number, or sequence or array of one per class, optional
        Factor of the positive part of the binary cross entropy, or "dynamic", as `bce_loss` has it.
    batch : bool
        Whether the sums of Dice run over the whole batch before the ratio.
    include_background : bool
        Whether class 0 counts in Dice.
    squared : bool
        Whether the areas of Dice are sums of squares.
    reduction : "mean", "sum" or "none"
        That of both terms; "none" gives each image's share of the "sum", and has none to give with ``batch``.
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
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Equal to the sum of `bce_loss` and of `dice_loss` with ``activation="sigmoid"``, with these options.

    References
    ----------
    Zhou et al., UNet++: A Nested U-Net Architecture for Medical Image Segmentation, DLMIA 2018, equation 2 (with the
    binary cross entropy at a factor of 1/2).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits, target = np.array([[[2.0, 0.0, -1.0]]]), np.array([[[1, 1, 0]]])
    >>> print(round(float(al.bce_dice_loss(logits, target)), 4))
    0.6211
    """
    inputs = open_binary("bce_dice_loss", logits, target, axis, ignore_index)
    areas = areas_of(inputs, "sigmoid", batch, include_background, squared)
    overlap = dice.reduced(areas, smooth, None, reduction)
    entropy = binary.reduced(inputs, logits, None, pos_weight, reduction)
    if reduction == "none":
        entropy = class_axis_to_1(inputs.xp, entropy, inputs.axis)
    return _both(inputs, entropy * lambda_bce, overlap * lambda_dice, batch, reduction)


def _both(inputs: Inputs, entropy: Array, overlap: Array, batch: bool, reduction: str) -> Any:
    """Return the sum of two terms, of which "none" holds each image's share."""
    if reduction == "none":
        if batch:
            raise ValueError(
                f'{inputs.function}: reduction is "none" with batch=True, expected "mean" or "sum": the images share '
                f"one Dice loss"
            )
        kept = 1 if inputs.batched else 0
        entropy, overlap = (inputs.xp.sum(x, axis=tuple(range(kept, x.ndim))) for x in (entropy, overlap))
    return inputs.kernels.as_array(entropy + overlap)


class BCEDiceLoss(Loss, function=bce_dice_loss):
    """The options of `bce_dice_loss`, bound."""

    lambda_bce: float = 1.0
    lambda_dice: float = 1.0
    smooth: float = 0.0
    ignore_index: int | None = 255
    _: KW_ONLY
    pos_weight: Any = None
    batch: bool = False
    include_background: bool = True
    squared: bool = False
    reduction: str = "mean"
    axis: int = 1

"""Margin losses: hinges of the scores themselves, which are 0 from a margin on."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_binary, open_classes
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import Array, Formula, Namespace, OfClasses, above, step

A = TypeVar("A")


def _short(xp: Namespace, x: Array, t: Array) -> Array:
    """Return what is missing to the margin."""
    return 1.0 - (2.0 * t - 1.0) * x


def _hinge(xp: Namespace, x: Array, t: Array) -> Array:
    return above(xp, _short(xp, x, t))


def _hinge_slopes(xp: Namespace, x: Array, t: Array) -> Array:
    return (1.0 - 2.0 * t) * step(xp, _short(xp, x, t))


# `most` is the largest number that has a finite square.


def _within(xp: Namespace, x: Array, t: Array, most: float) -> Array:
    """Return max(0, what is missing), at most `most`."""
    return xp.minimum(_hinge(xp, x, t), xp.full_like(x, most))


def _squared(xp: Namespace, x: Array, t: Array, most: float) -> Array:
    short = _within(xp, x, t, most)
    return short * short


def _squared_slopes(xp: Namespace, x: Array, t: Array, most: float) -> Array:
    return (2.0 - 4.0 * t) * _within(xp, x, t, most)


def _gap(xp: Namespace, gap: Array, own: Array, p: int, margin: float) -> Array:
    over = above(xp, gap + margin)
    return (1.0 - own) * (over if p == 1 else over * over)


def _gap_slopes(xp: Namespace, gap: Array, own: Array, p: int, margin: float) -> Array:
    return (1.0 - own) * (step(xp, gap + margin) if p == 1 else 2.0 * above(xp, gap + margin))


_HINGE = Formula(_hinge, _hinge_slopes)
_SQUARED = Formula(_squared, _squared_slopes)
_GAP = Formula(_gap, _gap_slopes)


@public
def hinge_loss(logits: A, target: Any, *, ignore_index: int | None = 255, reduction: str = "mean", axis: int = 1) -> A:
    r"""Penalise a score on the wrong side of the margin, independently for every class of every position.

    With scores :math:`z` (``logits``) and targets :math:`y` in [0, 1],

    .. math:: \max(0, 1 - (2 y - 1)\, z)

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class
        axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S),
        which become one-hot. Targets of -1 and 1 are out of range: pass (target + 1) / 2.
    ignore_index : int or None
        Entries whose target equals it (positions, where the target holds labels) count nowhere; None ignores nothing.
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
    At the margin the gradient is the mean of both sides, half the slope. A target of 1/2 asks for nothing and costs 1
    at every score. ``optax.losses.hinge_loss`` has the same values, of targets -1 and 1.

    References
    ----------
    Cortes and Vapnik, Support-Vector Networks, Machine Learning 20, 1995, section 3 (the slack variables); Hastie,
    Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., equation 12.25.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(float(al.hinge_loss(np.array([[0.5], [0.5], [9.0]]), np.array([1, 0, 255]))))
    1.0
    """
    inputs = open_binary("hinge_loss", logits, target, axis, ignore_index)
    return reduce.entries(inputs, reduction, _HINGE)


class HingeLoss(Loss, function=hinge_loss):
    """The options of `hinge_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def squared_hinge_loss(
    logits: A, target: Any, *, ignore_index: int | None = 255, reduction: str = "mean", axis: int = 1
) -> A:
    r"""Penalise a score on the wrong side of the margin, a far one more, for every class of every position on its own.

    With scores :math:`z` (``logits``) and targets :math:`y` in [0, 1],

    .. math:: \max(0, 1 - (2 y - 1)\, z)^2

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class
        axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S),
        which become one-hot. Targets of -1 and 1 are out of range: pass (target + 1) / 2.
    ignore_index : int or None
        Entries whose target equals it (positions, where the target holds labels) count nowhere; None ignores nothing.
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
    The gradient is continuous, and 0 from the margin on.

    References
    ----------
    Tang, Deep Learning using Linear Support Vector Machines, ICML 2013 Challenges in Representation Learning,
    section 2.2 (L2-SVM).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(float(al.squared_hinge_loss(np.array([[0.5], [0.5], [9.0]]), np.array([1, 0, 255]))))
    1.25
    """
    inputs = open_binary("squared_hinge_loss", logits, target, axis, ignore_index)
    return reduce.entries(inputs, reduction, _SQUARED, inputs.largest**0.5)


class SquaredHingeLoss(Loss, function=squared_hinge_loss):
    """The options of `squared_hinge_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def multi_margin_loss(
    logits: A,
    target: Any,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise scores that come within a margin of the score of the true class.

    With scores :math:`z` (``logits``), labels :math:`y`, class weights :math:`w` (``weight``), :math:`p` = ``p`` and
    :math:`C` classes, the loss of a position is

    .. math:: \frac{w_y}{C} \sum_{c \ne y} \max(0, \text{margin} - z_y + z_c)^p

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    p : 1 or 2
        The power.
    margin : float
        Scores further than this below that of the true class cost nothing.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions, whatever their weights; "parts" returns (total, weight) with
        mean = total / weight; "none" is 0 where ignored.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in their dtype, at least
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
    Equal to ``torch.nn.MultiMarginLoss`` wherever both are defined, which has no spatial axes and ignores nothing; the
    mean of that too divides by the number of positions alone. At the margin the gradient with ``p=1`` is the mean of
    both sides. Cost: a pass over the logits forward, one backward.

    References
    ----------
    Weston and Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999; there
    with a margin of 2, and without the division by C.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(round(float(al.multi_margin_loss(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4))
    0.325
    """
    inputs = open_classes("multi_margin_loss", logits, target, axis, ignore_index)
    how = OfClasses(_GAP, (p, margin), "gap")
    losses = inputs.kernels.classes(inputs.xp, inputs.logits, inputs.labels, None, inputs.valid, None, how)
    losses, _ = inputs.weigh(losses * (1.0 / inputs.classes), inputs.per_class("weight", weight))
    return reduce.valid_positions(inputs, losses, None, reduction)


class MultiMarginLoss(Loss, function=multi_margin_loss):
    """The options of `multi_margin_loss`, bound."""

    p: int = 1
    margin: float = 1.0
    weight: Any = None
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1

"""Cross entropies with another shape: tuned in their first order, or bounded against wrong labels."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import entropies, reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import Array, Formula, Namespace, OfClasses

A = TypeVar("A")


@public
def poly_loss(
    logits: A,
    target: Any,
    *,
    epsilon: float = 1.0,
    weight: Any = None,
    ignore_index: int | None = 255,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class, with a linear term of its own (Poly-1).

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})`, class weights :math:`w`
    (``weight``), label smoothing :math:`s` (``label_smoothing``), :math:`C` classes and :math:`\epsilon`
    (``epsilon``), the loss of a position is

    .. math:: (1 - s)\, w_y\, f(p_y) + \frac{s}{C} \sum_c w_c\, f(p_c), \qquad
              f(p) = -\log p + \epsilon\, (1 - p)

    and with target probabilities :math:`t` it is :math:`\sum_c w_c\, t'_c\, f(p_c)` with
    :math:`t' = (1 - s)\, t + s / C`.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits.
    epsilon : float, at least -1
        What is added to the coefficient 1 of :math:`1 - p` in the expansion of :math:`-\log p`; 0 gives cross entropy.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    label_smoothing : float in [0, 1]
        Share of the target that is spread evenly over the classes.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`w_y` of the valid positions, and with probability targets by the
        number of positions. "parts" returns (total, weight) with mean = total / weight. "none" is 0 where ignored.
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
    Below -1 a better prediction would cost more. For target probabilities that sum to 1 the loss is the cross entropy
    plus :math:`\epsilon\, (1 - \sum_c t_c p_c)`, as in ``optax.losses.poly_loss_cross_entropy``, whose default of
    ``epsilon`` is 2. Cost: that of cross entropy, and a few operations per position.

    References
    ----------
    Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov, PolyLoss: A Polynomial Expansion Perspective of Classification Loss
    Functions, ICLR 2022, the loss L_Poly-1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    >>> print(round(float(al.poly_loss(logits, np.array([0, 1, 255]))), 4))
    0.7196
    """
    inputs = open_classes("poly_loss", logits, target, axis, ignore_index, probabilities=True)
    class_weight = inputs.per_class("weight", weight)
    return entropies.reduced(inputs, class_weight, label_smoothing, reduction, _MIXED, _MIXED_OF_CLASS, 1.0, epsilon)


def _mixed_losses(xp: Namespace, x: Array, t: Array | None, entropy: float, missed: float) -> Array:
    bounded = missed * -xp.expm1(-x)
    # Without cross entropy not even an infinite one counts.
    return bounded if entropy == 0.0 else entropy * x + bounded


def _mixed_slopes(xp: Namespace, x: Array, t: Array | None, entropy: float, missed: float) -> Array:
    return entropy + missed * xp.exp(-x)


def _mixed_of_class(xp: Namespace, log_p: Array, p: Array, t: Array, entropy: float, missed: float) -> Array:
    return t * _mixed_losses(xp, -log_p, t, entropy, missed)


def _mixed_of_class_slopes(xp: Namespace, log_p: Array, p: Array, t: Array, entropy: float, missed: float) -> Array:
    return -t * _mixed_slopes(xp, -log_p, t, entropy, missed)


#: A multiple of x = -log p and one of 1 - p, of the label and of each class by its share.
_MIXED = Formula(_mixed_losses, _mixed_slopes)
_MIXED_OF_CLASS = Formula(_mixed_of_class, _mixed_of_class_slopes)


class PolyLoss(Loss, function=poly_loss):
    """The options of `poly_loss`, bound."""

    epsilon: float = 1.0
    weight: Any = None
    ignore_index: int | None = 255
    _: KW_ONLY
    label_smoothing: float = 0.0
    reduction: str = "mean"
    axis: int = 1


@public
def symmetric_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    alpha: float = 0.1,
    beta: float = 1.0,
    ignore_index: int | None = 255,
    log_zero: float = -4.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise what target and prediction miss of each other: cross entropy, and its reverse, which is bounded.

    With probabilities :math:`p = \mathrm{softmax}(\text{logits})`, target probabilities :math:`t` (of a label
    :math:`y`: 1 for class y, else 0), weights :math:`\alpha` (``alpha``) and :math:`\beta` (``beta``) and :math:`A`
    (``log_zero``), the loss of a position is

    .. math:: \alpha \sum_c t_c\, (-\log p_c) + \beta \sum_c p_c\, (-\max(\log t_c, A))

    which for a label is :math:`\alpha\, (-\log p_y) - \beta\, A\, (1 - p_y)`.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits.
    alpha : float, at least 0
        Weight of cross entropy, which fits labels, wrong ones too.
    beta : float, at least 0
        Weight of reverse cross entropy, which bears wrong labels.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    log_zero : float, at most 0
        What stands for log 0.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions. "parts" returns (total, weight) with mean = total / weight.
        "none" is 0 where ignored.
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
    The defaults of ``alpha`` and ``beta`` are those of the paper for CIFAR-10; for CIFAR-100 it takes 6 and 0.1. The
    paper defines log 0 alone; here ``log_zero`` is a lower bound of :math:`\log t_c`, so that the loss does not jump at
    t = 0. The authors' code cuts targets off at 1e-4, which is ``log_zero=math.log(1e-4)``, about -9.2, and
    probabilities at 1e-7, which is not done here. Cost: with labels that of cross entropy and a few operations per
    position.

    References
    ----------
    Wang, Ma, Chen, Luo, Yi, Bailey, Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019,
    equations 5 to 7.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    >>> print(round(float(al.symmetric_cross_entropy_loss(logits, np.array([0, 1, 255]))), 4))
    1.2794
    """
    inputs = open_classes("symmetric_cross_entropy_loss", logits, target, axis, ignore_index, probabilities=True)
    if inputs.labels is not None:
        return entropies.reduced(inputs, None, 0.0, reduction, _MIXED, _MIXED_OF_CLASS, alpha, -beta * log_zero)
    how = OfClasses(_BOTH_WAYS, (alpha, beta, log_zero))
    losses = inputs.kernels.classes(inputs.xp, inputs.logits, inputs.target, None, inputs.valid, None, how)
    return reduce.valid_positions(inputs, losses, None, reduction)


def _missing(xp: Namespace, t: Array, log_zero: float) -> Array:
    """Return -log t, at most -log_zero, which stands for that of 0."""
    some, most = t > 0.0, xp.full_like(t, -log_zero)
    return xp.where(some, xp.minimum(-xp.log(xp.where(some, t, xp.ones_like(t))), most), most)


def _both_ways(xp: Namespace, log_p: Array, p: Array, t: Array, alpha: float, beta: float, log_zero: float) -> Array:
    losses = beta * (p * _missing(xp, t, log_zero))
    # Without cross entropy not even an infinite one counts.
    return losses if alpha == 0.0 else losses - alpha * (log_p * t)


def _both_ways_slopes(
    xp: Namespace, log_p: Array, p: Array, t: Array, alpha: float, beta: float, log_zero: float
) -> Array:
    return beta * (p * _missing(xp, t, log_zero)) - alpha * t


_BOTH_WAYS = Formula(_both_ways, _both_ways_slopes)


class SymmetricCrossEntropyLoss(Loss, function=symmetric_cross_entropy_loss):
    """The options of `symmetric_cross_entropy_loss`, bound."""

    alpha: float = 0.1
    beta: float = 1.0
    ignore_index: int | None = 255
    _: KW_ONLY
    log_zero: float = -4.0
    reduction: str = "mean"
    axis: int = 1


@public
def generalized_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    q: float = 0.7,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class within a bound, so that wrong labels cannot dominate.

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})`, class weights :math:`w`
    (``weight``) and :math:`q` (``q``), the loss of a position is

    .. math:: w_y\, f(p_y), \qquad f(p) = \frac{1 - p^q}{q}

    and with target probabilities :math:`t` it is :math:`\sum_c w_c\, t_c\, f(p_c)`.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits.
    q : float in (0, 1]
        From cross entropy, the limit at 0, to 1 - p, half the mean absolute error, at 1: the larger, the less a
        position counts whose label is improbable.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`w_y` of the valid positions, and with probability targets by the
        number of positions. "parts" returns (total, weight) with mean = total / weight. "none" is 0 where ignored.
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
    The loss is at most 1 / q per unit of weight, even where the true class has the logit minus infinity. It is computed
    from the cross entropy, without a loss of digits where p is almost 1 or q almost 0. The truncated loss of the
    paper's equation 9 is not this one. Cost: that of cross entropy, and a few operations per position.

    References
    ----------
    Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, NeurIPS 2018,
    equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    >>> print(round(float(al.generalized_cross_entropy_loss(logits, np.array([0, 1, 255]))), 4))
    0.3353
    """
    inputs = open_classes("generalized_cross_entropy_loss", logits, target, axis, ignore_index, probabilities=True)
    class_weight = inputs.per_class("weight", weight)
    return entropies.reduced(inputs, class_weight, 0.0, reduction, _GENERALIZED, _GENERALIZED_OF_CLASS, q)


def _generalized(xp: Namespace, x: Array, t: Array | None, q: float) -> Array:
    return -xp.expm1(-q * x) / q


def _generalized_slopes(xp: Namespace, x: Array, t: Array | None, q: float) -> Array:
    return xp.exp(-q * x)


def _generalized_of_class(xp: Namespace, log_p: Array, p: Array, t: Array, q: float) -> Array:
    return t * _generalized(xp, -log_p, t, q)


def _generalized_of_class_slopes(xp: Namespace, log_p: Array, p: Array, t: Array, q: float) -> Array:
    return -t * _generalized_slopes(xp, -log_p, t, q)


#: (1 - p^q) / q of x = -log p, of the label and of each class by its share.
_GENERALIZED = Formula(_generalized, _generalized_slopes)
_GENERALIZED_OF_CLASS = Formula(_generalized_of_class, _generalized_of_class_slopes)


class GeneralizedCrossEntropyLoss(Loss, function=generalized_cross_entropy_loss):
    """The options of `generalized_cross_entropy_loss`, bound."""

    q: float = 0.7
    weight: Any = None
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1

"""Focal losses: cross entropies that count what is predicted well for less."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import entropies, reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_binary, open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import Array, Formula, Namespace, above, limited, step

A = TypeVar("A")

#: Where exp(-x) is 0 in every dtype, so that scores and losses beyond need not enter it.
_FAR = 1e3


@public
def focal_loss(
    logits: A,
    target: Any,
    *,
    gamma: float = 2.0,
    alpha: Any = None,
    ignore_index: int | None = 255,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class, the less the higher that probability is already.

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})`, focusing parameter
    :math:`\gamma` (``gamma``), class weights :math:`\alpha` (``alpha``), label smoothing :math:`s`
    (``label_smoothing``) and :math:`C` classes, the loss of a position is

    .. math:: (1 - s)\, \alpha_y\, f(p_y) + \frac{s}{C} \sum_c \alpha_c\, f(p_c), \qquad
              f(p) = (1 - p)^\gamma\, (-\log p)

    and with target probabilities :math:`t` it is :math:`\sum_c \alpha_c\, t'_c\, f(p_c)` with
    :math:`t' = (1 - s)\, t + s / C`.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1; or probabilities in
        [0, 1] of a real floating dtype in the shape of the logits.
    gamma : float, at least 0
        How fast a position loses weight as its true class grows probable; 0 gives cross entropy.
    alpha : number, or sequence or array of C finite numbers, optional
        Weight of each class; a number is the weight of all.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    label_smoothing : float in [0, 1]
        Share of the target that is spread evenly over the classes.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`\alpha_y` of the valid positions, and with probability targets
        by the number of positions. "parts" returns (total, weight) with mean = total / weight. "none" is 0 where
        ignored.
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
    The paper states the loss for one score per class: that is `sigmoid_focal_loss`. Its mean, over the number of
    objects of a detector, is no mean of cross entropy; here ``gamma=0`` equals ``cross_entropy_loss`` with
    ``weight=alpha`` in every reduction. A single number for ``alpha`` therefore cancels in the mean over labels, and
    scales every other result. The gradient is finite for all ``gamma``, at :math:`p_y = 1` too. Cost: that of cross
    entropy, and a few operations per position; label smoothing and probability targets take two more passes over the
    logits.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    >>> print(round(float(al.focal_loss(logits, np.array([0, 1, 255]))), 4))
    0.0875
    """
    inputs = open_classes("focal_loss", logits, target, axis, ignore_index, probabilities=True)
    weight, numbers = _alpha(inputs, alpha), (gamma, inputs.least)
    return entropies.reduced(inputs, weight, label_smoothing, reduction, _FOCAL, _FOCAL_OF_CLASS, *numbers)


def _alpha(inputs: Inputs, alpha: Any) -> Array | None:
    """Return the weights of all classes, or None."""
    if alpha is None:
        return None
    given = inputs.plain_array("alpha", alpha, [(inputs.classes,), ()], "a number, or one per class")
    return given if given.ndim else inputs.xp.broadcast_to(given, (inputs.classes,))


# `least` is a number far below what counts, of which no power from gamma - 2 on overflows.


def _floored(xp: Namespace, u: Array, least: float) -> Array:
    """Return u where it counts, and nowhere a number whose powers are singular."""
    return xp.maximum(u, xp.full_like(u, least))


def _power(xp: Namespace, u: Array, exponent: float) -> Array:
    """Return u to a power; of the common ones a product or a root, several times as fast."""
    if exponent == 0.0:
        power = xp.ones_like(u)
    elif exponent == 0.5:
        power = xp.sqrt(u)
    elif exponent == 1.0:
        power = u
    elif exponent == 2.0:
        power = u * u
    elif exponent == 3.0:
        power = u * u * u
    elif exponent == 4.0:
        square = u * u
        power = square * square
    else:
        power = xp.pow(u, exponent)
    return power


def _capped(xp: Namespace, x: Array) -> Array:
    """Return x >= 0 up to where exp(-x) is 0: beyond, a product of both would be no number or a wrong one."""
    return xp.minimum(x, xp.full_like(x, _FAR))


def _focal_losses(xp: Namespace, x: Array, t: Array | None, gamma: float, least: float) -> Array:
    # expm1 keeps the digits of 1 - p where p is almost 1.
    missed = _floored(xp, -xp.expm1(-_capped(xp, x)), least)
    return _power(xp, missed, gamma) * x


def _focal_slopes(xp: Namespace, x: Array, t: Array | None, gamma: float, least: float) -> Array:
    if gamma == 0.0:
        slopes = xp.ones_like(x)
    else:
        near = _capped(xp, x)
        missed = _floored(xp, -xp.expm1(-near), least)
        slopes = _power(xp, missed, gamma - 1.0) * (missed + gamma * (near * xp.exp(-near)))
    return slopes


def _focal_of_class(xp: Namespace, log_p: Array, p: Array, t: Array, gamma: float, least: float) -> Array:
    return t * _focal_losses(xp, -log_p, t, gamma, least)


def _focal_of_class_slopes(xp: Namespace, log_p: Array, p: Array, t: Array, gamma: float, least: float) -> Array:
    return -t * _focal_slopes(xp, -log_p, t, gamma, least)


#: (1 - p)^gamma x of x = -log p, of the label and of each class by its share.
_FOCAL = Formula(_focal_losses, _focal_slopes)
_FOCAL_OF_CLASS = Formula(_focal_of_class, _focal_of_class_slopes)


class FocalLoss(Loss, function=focal_loss):
    """The options of `focal_loss`, bound."""

    gamma: float = 2.0
    alpha: Any = None
    ignore_index: int | None = 255
    _: KW_ONLY
    label_smoothing: float = 0.0
    reduction: str = "mean"
    axis: int = 1


@public
def sigmoid_focal_loss(
    logits: A,
    target: Any,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a wrong yes or no for every class of every position, the less the nearer the prediction is already.

    With logits :math:`x`, targets :math:`y` in [0, 1], :math:`p = \mathrm{sigmoid}(x)`, focusing parameter
    :math:`\gamma` (``gamma``) and balance :math:`\alpha` (``alpha``),

    .. math:: [\, \alpha\, y + (1 - \alpha)\, (1 - y)\, ]\; [\, (1 - p)\, y + p\, (1 - y)\, ]^\gamma\;
              [\, -y \log p - (1 - y) \log(1 - p)\, ]

    where the first factor is 1 if ``alpha`` is None.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class
        axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S),
        which become one-hot.
    gamma : float, at least 0
        How fast an entry loses weight as its prediction nears the target; 0 gives weighted binary cross entropy.
    alpha : float in [0, 1], optional
        Weight of positives; negatives weigh 1 - alpha. With None both weigh 1.
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
    Equal to ``torchvision.ops.sigmoid_focal_loss`` and ``optax.sigmoid_focal_loss``, also for targets between 0 and 1;
    the mean leaves out what is ignored. The paper divides by the number of anchors assigned to an object instead: take
    "sum" for that. The gradient is finite for all ``gamma`` and logits. A logit beyond 9e18 in float32, or 6e153 in
    float64, counts as that, infinite ones too. Cost: a pass over the logits, and one over the gradient; labels are
    written out as one-hot.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(round(float(al.sigmoid_focal_loss(np.array([[0.0], [2.0], [9.0]]), np.array([1, 0, 255]))), 4))
    0.6404
    """
    inputs = open_binary("sigmoid_focal_loss", logits, target, axis, ignore_index)
    weights = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    return reduce.entries(inputs, reduction, _SIGMOID_FOCAL, gamma, *weights, *_least_and_far(inputs))


def _least_and_far(inputs: Inputs) -> tuple[float, float]:
    """Return the least probability that counts, and how far below 0 its score is."""
    return inputs.least, -math.log(inputs.least)


# The formulas of scores do with minima and maxima, since selections cost several times as much.


def _margins(xp: Namespace, x: Array, least: float) -> tuple[Array, Array, Array]:
    """Return max(x, 0) and max(-x, 0), and log(1 + exp(-|x|)), which makes softplus(x) and softplus(-x) of them.

    They are finite: an infinite score on the right side is to cost nothing, not 0 times infinity. A difference of them
    would do for x, but its derivatives would lose the digits of a small slope.
    """
    near = limited(xp, x, 1.0 / least)
    minus = -near
    return above(xp, near), above(xp, minus), xp.log1p(xp.exp(xp.minimum(near, minus)))


def _sigmoids(xp: Namespace, x: Array, far: float) -> tuple[Array, Array]:
    """Return sigmoid(x), no less than where x is -far, and sigmoid(-x)."""
    odds = xp.exp(xp.minimum(-x, xp.full_like(x, far)))
    p = 1.0 / (1.0 + odds)
    return p, odds * p


def _binary_entropy(xp: Namespace, x: Array, t: Array, f: Array, least: float) -> Array:
    up, down, rest = _margins(xp, x, least)
    return (f * up + t * down) + rest


def _sigmoid_focal_losses(
    xp: Namespace, x: Array, t: Array, gamma: float, positive: float, negative: float, least: float, far: float
) -> Array:
    p, n = _sigmoids(xp, x, far)
    f = 1.0 - t
    missed = _floored(xp, t * n + f * p, least)
    scale = negative + (positive - negative) * t
    return scale * (_power(xp, missed, gamma) * _binary_entropy(xp, x, t, f, least))


def _sigmoid_focal_slopes(
    xp: Namespace, x: Array, t: Array, gamma: float, positive: float, negative: float, least: float, far: float
) -> Array:
    _, slopes = _sigmoid_focal(xp, x, t, gamma, positive, negative, least, far)
    return slopes


def _sigmoid_focal(
    xp: Namespace, x: Array, t: Array, gamma: float, positive: float, negative: float, least: float, far: float
) -> tuple[Array, Array]:
    p, n = _sigmoids(xp, x, far)
    f = 1.0 - t
    entropy = _binary_entropy(xp, x, t, f, least)
    low, high = t * n, f * p
    missed = _floored(xp, low + high, least)
    # Of the factor, through the chance of the other side, and of the entropy.
    slopes = missed * (high - low) + gamma * (_capped(xp, entropy) * ((f - t) * (p * n)))
    scale = (negative + (positive - negative) * t) * _power(xp, missed, gamma - 1.0)
    return scale * (missed * entropy), scale * slopes


_SIGMOID_FOCAL = Formula(_sigmoid_focal_losses, _sigmoid_focal_slopes, _sigmoid_focal)


class SigmoidFocalLoss(Loss, function=sigmoid_focal_loss):
    """The options of `sigmoid_focal_loss`, bound."""

    gamma: float = 2.0
    alpha: float | None = 0.25
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def asymmetric_loss(
    logits: A,
    target: Any,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a wrong yes or no for every class, easy negatives far less than easy positives (multi-label).

    With logits :math:`x`, targets :math:`y` in [0, 1], :math:`p = \mathrm{sigmoid}(x)`, focusing parameters
    :math:`\gamma_+` (``gamma_pos``) and :math:`\gamma_-` (``gamma_neg``) and the shifted probability
    :math:`p_m = \max(p - m, 0)` with margin :math:`m` (``clip``),

    .. math:: y\, (1 - p)^{\gamma_+}\, (-\log p) + (1 - y)\, p_m^{\gamma_-}\, (-\log(1 - p_m))

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class
        axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S),
        which become one-hot.
    gamma_neg : float, at least 0
        How fast a negative loses weight as it grows improbable.
    gamma_pos : float, at least 0
        How fast a positive loses weight as it grows probable.
    clip : float in [0, 1]
        Negatives of at most this probability cost nothing.
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
    The authors' code adds up the entries and divides by nothing: take "sum" for that. As in its default, the focusing
    factors are differentiated (its option ``disable_torch_grad_focal_loss`` holds them constant). It cuts logarithms
    off at log(1e-8); here they are computed from the logits and exact. For a target between 0 and 1 the two terms are
    blended as in equation 4, where that code blends the exponents. At p = m, a kink if ``gamma_neg`` is 0, the gradient
    is the mean of both sides. A logit beyond 9e18 in float32, or 6e153 in float64, counts as that, infinite ones too.
    Cost: a pass over the logits, and one over the gradient; labels are written out as one-hot.

    References
    ----------
    Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor, Asymmetric Loss For Multi-Label Classification,
    ICCV 2021, equations 4 to 7.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(round(float(al.asymmetric_loss(np.array([[0.0, 2.0, -4.0]]), np.array([[1, 0, 0]]))), 4))
    0.3977
    """
    inputs = open_binary("asymmetric_loss", logits, target, axis, ignore_index)
    numbers = (gamma_neg, gamma_pos, clip)
    return reduce.entries(inputs, reduction, _ASYMMETRIC, *numbers, *_least_and_far(inputs))


def _shifted_entropy(xp: Namespace, shifted: Array, n: Array, plain: Array, clip: float) -> Array:
    """Return -log(1 - p_m), from p_m, 1 - p, and -log(1 - p) for no shift."""
    if clip == 0.0:
        entropy = plain
    else:
        # The logarithm up to p_m = 1/2, and what is beyond it from 1 - p_m = (1 - p) + m: each keeps its digits.
        up_to_half = xp.log1p(-xp.minimum(shifted, xp.full_like(shifted, 0.5)))
        entropy = -up_to_half - xp.log(xp.minimum(2.0 * (n + clip), xp.ones_like(n)))
    return entropy


def _both_entropies(xp: Namespace, x: Array, least: float) -> tuple[Array, Array]:
    """Return softplus(x) and softplus(-x), the entropies of targets 0 and 1."""
    up, down, rest = _margins(xp, x, least)
    return up + rest, down + rest


def _asymmetric_losses(
    xp: Namespace, x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float, least: float, far: float
) -> Array:
    p, n = _sigmoids(xp, x, far)
    of_0, of_1 = _both_entropies(xp, x, least)
    shifted = above(xp, p - clip)
    negative = _power(xp, _floored(xp, shifted, least), gamma_neg) * _shifted_entropy(xp, shifted, n, of_0, clip)
    return t * (_power(xp, _floored(xp, n, least), gamma_pos) * of_1) + (1.0 - t) * negative


def _asymmetric_slopes(
    xp: Namespace, x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float, least: float, far: float
) -> Array:
    _, slopes = _asymmetric(xp, x, t, gamma_neg, gamma_pos, clip, least, far)
    return slopes


def _asymmetric(
    xp: Namespace, x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float, least: float, far: float
) -> tuple[Array, Array]:
    p, n = _sigmoids(xp, x, far)
    of_0, of_1 = _both_entropies(xp, x, least)
    positive = t * _power(xp, _floored(xp, n, least), gamma_pos)
    shifted = above(xp, p - clip)
    floored, entropy = _floored(xp, shifted, least), _shifted_entropy(xp, shifted, n, of_0, clip)
    negative = (1.0 - t) * _power(xp, floored, gamma_neg - 1.0)
    losses = positive * of_1 + negative * (floored * entropy)
    slope = p if clip == 0.0 else p * n / (n + clip)
    # Below the shift nothing changes, and at it, a kink for gamma_neg = 0, half of it.
    inside = negative * step(xp, p - clip)
    slopes = inside * (floored * slope + gamma_neg * (entropy * (p * n)))
    return losses, slopes - positive * (gamma_pos * (p * _capped(xp, of_1)) + n)


_ASYMMETRIC = Formula(_asymmetric_losses, _asymmetric_slopes, _asymmetric)


class AsymmetricLoss(Loss, function=asymmetric_loss):
    """The options of `asymmetric_loss`, bound."""

    gamma_neg: float = 4.0
    gamma_pos: float = 1.0
    clip: float = 0.05
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1

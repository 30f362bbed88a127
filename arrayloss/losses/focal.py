"""Focal losses: cross entropies that count what is predicted well for less."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import entropies, reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_binary
from arrayloss._core.inputs import Inputs
from arrayloss._core.loss import Loss
from arrayloss._core.options import check
from arrayloss._machines.generic import Formula, sign

A = TypeVar("A")
Array = Any

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
    options = check(
        "focal_loss",
        gamma=gamma,
        alpha=alpha,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        axis=axis,
    )
    inputs = entropies.opened("focal_loss", logits, target, options)
    return entropies.reduced(inputs, _alpha(inputs, options["alpha"]), options, _FOCAL, options["gamma"])


def _alpha(inputs: Inputs, alpha: Any) -> Array | None:
    """Return the weights of all classes, or None."""
    if alpha is None:
        return None
    given = inputs.plain_array("alpha", alpha, [(inputs.classes,), ()], "a number, or one per class")
    return given if given.ndim else inputs.xp.broadcast_to(given, (inputs.classes,))


def _least(xp: Any, x: Array) -> float:
    """Return a number far below what counts, of which no power from gamma - 2 on overflows."""
    return float(xp.finfo(x.dtype).smallest_normal) ** 0.5


def _floored(xp: Any, u: Array) -> Array:
    """Return u where it counts, and nowhere a number whose powers are singular."""
    return xp.maximum(u, xp.full_like(u, _least(xp, u)))


def _power(u: Array, exponent: float) -> Array:
    """Return u to a power; the small whole ones that are common are products, several times as fast."""
    if exponent == 1.0:
        return u
    if exponent not in (2.0, 3.0, 4.0):
        return u**exponent
    square = u * u
    return square if exponent == 2.0 else square * (u if exponent == 3.0 else square)


def _capped(xp: Any, x: Array) -> Array:
    """Return x >= 0 up to where exp(-x) is 0: beyond, a product of both would be no number or a wrong one."""
    return xp.minimum(x, xp.full_like(x, _FAR))


def _focal_losses(xp: Any, x: Array, t: Array | None, gamma: float) -> Array:
    # expm1 keeps the digits of 1 - p where p is almost 1.
    missed = _floored(xp, -xp.expm1(-_capped(xp, x)))
    return _power(missed, gamma) * x


def _focal_slopes(xp: Any, x: Array, t: Array | None, gamma: float) -> Array:
    x = _capped(xp, x)
    missed = _floored(xp, -xp.expm1(-x))
    return _power(missed, gamma) + gamma * _power(missed, gamma - 1.0) * (x * xp.exp(-x))


#: (1 - p)^gamma x of x = -log p.
_FOCAL = Formula(_focal_losses, _focal_slopes)


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
    options = check(
        "sigmoid_focal_loss",
        gamma=gamma,
        alpha=alpha,
        ignore_index=ignore_index,
        reduction=reduction,
        axis=axis,
    )
    inputs = open_binary(
        "sigmoid_focal_loss", logits, target, axis=options["axis"], ignore_index=options["ignore_index"]
    )
    weights = (1.0, 1.0) if options["alpha"] is None else (options["alpha"], 1.0 - options["alpha"])
    return reduce.entries(inputs, options["reduction"], _SIGMOID_FOCAL, options["gamma"], *weights)


# The formulas of scores do with minima and maxima, since selections cost several times as much.


def _margins(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """Return max(x, 0) and max(-x, 0), and log(1 + exp(-|x|)), which makes softplus(x) and softplus(-x) of them.

    They are finite: an infinite score on the right side is to cost nothing, not 0 times infinity. A difference of them
    would do for x, but its derivatives would lose the digits of a small slope.
    """
    largest, zero = xp.full_like(x, 1.0 / _least(xp, x)), xp.zeros_like(x)
    x = xp.minimum(xp.maximum(x, -largest), largest)
    minus = -x
    return xp.maximum(x, zero), xp.maximum(minus, zero), xp.log1p(xp.exp(xp.minimum(x, minus)))


def _sigmoids(xp: Any, x: Array) -> tuple[Array, Array]:
    """Return sigmoid(x), no less than the floor of `_floored`, and sigmoid(-x)."""
    odds = xp.exp(xp.minimum(-x, xp.full_like(x, -math.log(_least(xp, x)))))
    p = 1.0 / (1.0 + odds)
    return p, odds * p


def _binary_entropy(xp: Any, x: Array, t: Array, f: Array) -> Array:
    above, below, rest = _margins(xp, x)
    return (f * above + t * below) + rest


def _sigmoid_focal_losses(xp: Any, x: Array, t: Array, gamma: float, positive: float, negative: float) -> Array:
    p, n = _sigmoids(xp, x)
    f = 1.0 - t
    missed = _floored(xp, t * n + f * p)
    return (negative + (positive - negative) * t) * (_power(missed, gamma) * _binary_entropy(xp, x, t, f))


def _sigmoid_focal(xp: Any, x: Array, t: Array, gamma: float, positive: float, negative: float) -> tuple[Array, Array]:
    p, n = _sigmoids(xp, x)
    f = 1.0 - t
    entropy = _binary_entropy(xp, x, t, f)
    low, high = t * n, f * p
    missed = _floored(xp, low + high)
    # Of the factor, through the chance of the other side, and of the entropy.
    slopes = missed * (high - low) + gamma * (_capped(xp, entropy) * ((f - t) * (p * n)))
    scale = (negative + (positive - negative) * t) * _power(missed, gamma - 1.0)
    return scale * (missed * entropy), scale * slopes


_SIGMOID_FOCAL = Formula(_sigmoid_focal_losses, lambda *given: _sigmoid_focal(*given)[1], _sigmoid_focal)


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
    options = check(
        "asymmetric_loss",
        gamma_neg=gamma_neg,
        gamma_pos=gamma_pos,
        clip=clip,
        ignore_index=ignore_index,
        reduction=reduction,
        axis=axis,
    )
    inputs = open_binary("asymmetric_loss", logits, target, axis=options["axis"], ignore_index=options["ignore_index"])
    numbers = (options[name] for name in ("gamma_neg", "gamma_pos", "clip"))
    return reduce.entries(inputs, options["reduction"], _ASYMMETRIC, *numbers)


def _shifted_entropy(xp: Any, shifted: Array, n: Array, plain: Array, clip: float) -> Array:
    """Return -log(1 - p_m), from p_m, 1 - p, and -log(1 - p) for no shift."""
    if clip == 0.0:
        return plain
    # The logarithm up to p_m = 1/2, and what is beyond it from 1 - p_m = (1 - p) + m: each keeps its digits.
    up_to_half = xp.log1p(-xp.minimum(shifted, xp.full_like(shifted, 0.5)))
    return -up_to_half - xp.log(xp.minimum(2.0 * (n + clip), xp.ones_like(n)))


def _both_entropies(xp: Any, x: Array) -> tuple[Array, Array]:
    """Return softplus(x) and softplus(-x), the entropies of targets 0 and 1."""
    above, below, rest = _margins(xp, x)
    return above + rest, below + rest


def _asymmetric_losses(xp: Any, x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float) -> Array:
    (p, n), (of_0, of_1) = _sigmoids(xp, x), _both_entropies(xp, x)
    shifted = xp.maximum(p - clip, xp.zeros_like(p))
    negative = _power(_floored(xp, shifted), gamma_neg) * _shifted_entropy(xp, shifted, n, of_0, clip)
    return t * (_power(_floored(xp, n), gamma_pos) * of_1) + (1.0 - t) * negative


def _asymmetric(xp: Any, x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float) -> tuple[Array, Array]:
    (p, n), (of_0, of_1) = _sigmoids(xp, x), _both_entropies(xp, x)
    positive = t * _power(_floored(xp, n), gamma_pos)
    shifted = xp.maximum(p - clip, xp.zeros_like(p))
    floored, entropy = _floored(xp, shifted), _shifted_entropy(xp, shifted, n, of_0, clip)
    negative = (1.0 - t) * _power(floored, gamma_neg - 1.0)
    losses = positive * of_1 + negative * (floored * entropy)
    slope = p if clip == 0.0 else p * n / (n + clip)
    # Below the shift nothing changes, and at it, a kink for gamma_neg = 0, half of it.
    inside = negative * (0.5 + 0.5 * sign(xp, p - clip))
    slopes = inside * (floored * slope + gamma_neg * (entropy * (p * n)))
    return losses, slopes - positive * (gamma_pos * (p * _capped(xp, of_1)) + n)


_ASYMMETRIC = Formula(_asymmetric_losses, lambda *given: _asymmetric(*given)[1], _asymmetric)


class AsymmetricLoss(Loss, function=asymmetric_loss):
    """The options of `asymmetric_loss`, bound."""

    gamma_neg: float = 4.0
    gamma_pos: float = 1.0
    clip: float = 0.05
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1

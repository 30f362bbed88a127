"""Regression losses that large differences do not rule, and those of quantiles."""

from __future__ import annotations

from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.entries import open_entries
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import ABSOLUTE, HUBER, SMOOTH, Array, Formula, Namespace, above

A = TypeVar("A")

#: The squares of lesser widths have lost their digits in float32, and are 0 here.
_LEAST = 1e-18
#: Of so many widths the square root of d^2 + width^2 is |d|, to rounding.
_WIDTHS = 2.0**30


def _charbonnier(xp: Namespace, x: Array, t: Array, epsilon: float) -> Array:
    d = x - t
    # The square may overflow, and is cut off where the root is |d| already; the root itself is never less than |d|.
    far = epsilon * _WIDTHS
    squares = xp.minimum(d * d, xp.full_like(d, far * far))
    return xp.maximum(xp.sqrt(squares + epsilon * epsilon), xp.abs(d))


def _charbonnier_slopes(xp: Namespace, x: Array, t: Array, epsilon: float) -> Array:
    return (x - t) / _charbonnier(xp, x, t, epsilon)


def _pinball(xp: Namespace, x: Array, t: Array, quantile: float) -> Array:
    d = x - t
    return xp.maximum((1.0 - quantile) * d, -quantile * d)


def _pinball_slopes(xp: Namespace, x: Array, t: Array, quantile: float) -> Array:
    # Two of the three are 0, so that each keeps its digits; selections would take twice as long on the host.
    side = xp.sign(x - t)
    up, down = above(xp, side), above(xp, -side)
    return up * (1.0 - quantile) - down * quantile + (1.0 - up - down) * (0.5 - quantile)


#: Beyond it log cosh d is |d| - log 2, and within it e^|d| does not overflow.
_FAR = 40.0


def _log_cosh(xp: Namespace, x: Array, t: Array) -> Array:
    d = x - t
    far = xp.full_like(d, _FAR)
    # cosh d - 1, to full relative accuracy. That it is smooth at 0 is what a form in |d| would lack.
    over = -0.5 * xp.expm1(xp.minimum(d, far)) * xp.expm1(xp.minimum(-d, far))
    return xp.log1p(over) + above(xp, xp.abs(d) - _FAR)


def _log_cosh_slopes(xp: Namespace, x: Array, t: Array) -> Array:
    return xp.tanh(x - t)


_LOG_COSH = Formula(_log_cosh, _log_cosh_slopes)
_CHARBONNIER = Formula(_charbonnier, _charbonnier_slopes)
_PINBALL = Formula(_pinball, _pinball_slopes)


@public
def smooth_l1_loss(
    logits: A,
    target: Any,
    *,
    beta: float = 1.0,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise the difference between prediction and target: squared where it is small, absolute where it is large.

    .. math:: \begin{cases} d^2 / (2 \beta) & |d| < \beta \\ |d| - \beta / 2 & \text{otherwise} \end{cases}
        \qquad d = x - t

    with the prediction :math:`x` (``logits``), the target :math:`t` and the width :math:`\beta` (``beta``). Its
    gradient is :math:`d / \beta`, limited to [-1, 1].

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype.
    target : array in the shape of the prediction
        Of a real floating or integer dtype.
    beta : float, at least 0
        Where the loss turns from squared to absolute, in the unit of the target. 0 is ``l1_loss``.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the prediction for "none", of its library and on its device, in its dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that differ, or an option out of range.

    Notes
    -----
    ``huber_loss`` with ``delta=beta`` is ``beta`` times this loss. A ``beta`` below 1e-18, whose square has
    lost its digits in float32, is taken as 0.
    Shapes are never broadcast: a prediction (N, 1) and a target (N,) are an error, not N^2 differences.

    References
    ----------
    Girshick, Fast R-CNN, ICCV 2015, equation 3 (there with beta = 1); with beta as in torch.nn.SmoothL1Loss.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.smooth_l1_loss(np.array([1.0, 4.0]), np.array([1.5, 2.0]), reduction="none"))
    [0.125 1.5  ]
    """
    inputs = open_entries("smooth_l1_loss", logits, target, ignore_index)
    if beta < _LEAST:
        return reduce.entries(inputs, reduction, ABSOLUTE)
    return reduce.entries(inputs, reduction, SMOOTH, beta)


class SmoothL1Loss(Loss, function=smooth_l1_loss):
    """The options of `smooth_l1_loss`, bound."""

    beta: float = 1.0
    reduction: str = "mean"
    ignore_index: int | None = None


@public
def huber_loss(
    logits: A,
    target: Any,
    *,
    delta: float = 1.0,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise the squared difference between prediction and target, beyond a bound only in proportion to it.

    .. math:: \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta\, (|d| - \delta / 2) & \text{otherwise} \end{cases}
        \qquad d = x - t

    with the prediction :math:`x` (``logits``), the target :math:`t` and the bound :math:`\delta` (``delta``); its
    gradient is :math:`d`, limited to :math:`[-\delta, \delta]`.

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype.
    target : array in the shape of the prediction
        Of a real floating or integer dtype.
    delta : float, above 0
        Where the loss turns from squared to linear, in the unit of the target.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the prediction for "none", of its library and on its device, in its dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that differ, or an option out of range.

    Notes
    -----
    ``smooth_l1_loss`` with ``beta=delta`` is this loss divided by ``delta``.
    Shapes are never broadcast: a prediction (N, 1) and a target (N,) are an error, not N^2 differences.

    References
    ----------
    Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1), 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.huber_loss(np.array([1.0, 4.0]), np.array([1.5, 2.0]), reduction="none"))
    [0.125 1.5  ]
    """
    return reduce.entries(open_entries("huber_loss", logits, target, ignore_index), reduction, HUBER, delta)


class HuberLoss(Loss, function=huber_loss):
    """The options of `huber_loss`, bound."""

    delta: float = 1.0
    reduction: str = "mean"
    ignore_index: int | None = None


@public
def log_cosh_loss(
    logits: A,
    target: Any,
    *,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise the difference between prediction and target: squared where it is small, absolute where it is large.

    .. math:: \log \cosh(x - t)

    with the prediction :math:`x` (``logits``) and the target :math:`t`: close to :math:`(x - t)^2 / 2` near 0 and to
    :math:`|x - t| - \log 2` far from it, without a kink between; its gradient is :math:`\tanh(x - t)`.

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype.
    target : array in the shape of the prediction
        Of a real floating or integer dtype.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the prediction for "none", of its library and on its device, in its dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that differ, or an option out of range.

    Notes
    -----
    The value has all its digits for tiny differences, where a logarithm of a number near 1 has none, and does not
    overflow for large ones.
    Shapes are never broadcast: a prediction (N, 1) and a target (N,) are an error, not N^2 differences.

    References
    ----------
    Saleh, Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine Learning, arXiv:2208.04564,
    2022.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.log_cosh_loss(np.array([1.0, 4.0]), np.array([1.5, 2.0]), reduction="none").round(4))
    [0.1201 1.325 ]
    """
    return reduce.entries(open_entries("log_cosh_loss", logits, target, ignore_index), reduction, _LOG_COSH)


class LogCoshLoss(Loss, function=log_cosh_loss):
    """The options of `log_cosh_loss`, bound."""

    reduction: str = "mean"
    ignore_index: int | None = None


@public
def charbonnier_loss(
    logits: A,
    target: Any,
    *,
    epsilon: float = 1e-3,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise the absolute difference between prediction and target, with the kink at 0 rounded off.

    .. math:: \sqrt{(x - t)^2 + \epsilon^2}

    with the prediction :math:`x` (``logits``), the target :math:`t` and the width :math:`\epsilon` (``epsilon``) of the
    rounding; its gradient is :math:`x - t` over the loss.

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype.
    target : array in the shape of the prediction
        Of a real floating or integer dtype.
    epsilon : float in [0, 1e9]
        Width of the rounding, and the loss of a perfect prediction, in the unit of the target. 0 is ``l1_loss``.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the prediction for "none", of its library and on its device, in its dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that differ, or an option out of range.

    Notes
    -----
    Nothing overflows on the way: a difference of 1e30 in float32 costs 1e30. An ``epsilon`` below 1e-18,
    whose square has lost its digits in float32, is taken as 0. Some libraries take :math:`\epsilon` for
    :math:`\epsilon^2`, or subtract :math:`\epsilon`.
    Shapes are never broadcast: a prediction (N, 1) and a target (N,) are an error, not N^2 differences.

    References
    ----------
    Charbonnier, Blanc-Feraud, Aubert, Barlaud, Two Deterministic Half-Quadratic Regularization Algorithms for Computed
    Imaging, ICIP 1994; Lai et al., Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution, CVPR 2017,
    section 3.2 (loss function).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.charbonnier_loss(np.array([1.0, 4.0]), np.array([1.0, 8.0]), epsilon=3.0, reduction="none"))
    [3. 5.]
    """
    inputs = open_entries("charbonnier_loss", logits, target, ignore_index)
    if epsilon < _LEAST:
        return reduce.entries(inputs, reduction, ABSOLUTE)
    return reduce.entries(inputs, reduction, _CHARBONNIER, epsilon)


class CharbonnierLoss(Loss, function=charbonnier_loss):
    """The options of `charbonnier_loss`, bound."""

    epsilon: float = 1e-3
    reduction: str = "mean"
    ignore_index: int | None = None


@public
def quantile_loss(
    logits: A,
    target: Any,
    *,
    quantile: float = 0.5,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise predictions that are too low and too high at two rates, so that a quantile of the target costs least.

    .. math:: \max(q\, (t - x),\ (q - 1)\, (t - x))

    with the prediction :math:`x` (``logits``), the target :math:`t` and the quantile :math:`q` (``quantile``). It
    is also called the pinball loss. Its gradient is :math:`1 - q` where the prediction is too high, :math:`-q` where it
    is too low, and the mean of both where it is right.

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype.
    target : array in the shape of the prediction
        Of a real floating or integer dtype.
    quantile : float in [0, 1]
        The share of targets that is to lie below the prediction; 0.5 is half of ``l1_loss``.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the prediction for "none", of its library and on its device, in its dtype, at least
        float32. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that differ, or an option out of range.

    Notes
    -----
    Shapes are never broadcast: a prediction (N, 1) and a target (N,) are an error, not N^2 differences.

    References
    ----------
    Koenker, Bassett, Regression Quantiles, Econometrica 46(1), 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.quantile_loss(np.array([1.0, 4.0]), np.array([2.0, 2.0]), quantile=0.9, reduction="none"))
    [0.9 0.2]
    """
    return reduce.entries(open_entries("quantile_loss", logits, target, ignore_index), reduction, _PINBALL, quantile)


class QuantileLoss(Loss, function=quantile_loss):
    """The options of `quantile_loss`, bound."""

    quantile: float = 0.5
    reduction: str = "mean"
    ignore_index: int | None = None

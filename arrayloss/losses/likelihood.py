"""Negative log likelihoods of numbers, entry by entry."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.entries import open_entries
from arrayloss._core.logits import pair
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import Array, Formula, Namespace

A = TypeVar("A")
B = TypeVar("B")

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


@public
def poisson_nll_loss(
    logits: A,
    target: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise a low probability of the counts, each from a Poisson distribution whose rate is predicted.

    With the prediction :math:`x` (``logits``) and the counts :math:`t` (``target``),

    .. math:: e^x - t\, x

    where :math:`x` is the logarithm of the rate, or, with ``log_input=False``, where it is the rate itself,

    .. math:: x - t \log(x + \epsilon)

    with :math:`\epsilon` (``eps``). With ``full``, Stirling's approximation of :math:`\log t!` is added where
    :math:`t > 1`: :math:`t \log t - t + \log(2 \pi t) / 2`.

    Parameters
    ----------
    logits : array of any shape
        The prediction, of a real floating dtype: logarithms of rates, or rates, which are at least 0.
    target : array in the shape of the prediction
        Counts of at least 0, of a real floating or integer dtype; they need not be whole.
    log_input : bool
        Whether the prediction is the logarithm of the rate.
    full : bool
        Whether to add the part of the log likelihood that depends on the target alone.
    eps : float, at least 0
        Keeps the logarithm of a rate of 0 finite; unused with ``log_input``.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the prediction, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None ignores nothing, which counts up to 255 and more need.

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
        Shapes that differ, an option out of range, or a negative count or rate that is not ignored. On a GPU and under
        jit, vmap and compile a negative one makes the loss NaN.

    Notes
    -----
    A count of 0 costs the rate alone, also at a rate of 0 (a logarithm of -inf). The loss may be negative without
    ``full``. It is infinite where :math:`e^x` is: above 88 in float32.

    References
    ----------
    Cameron, Trivedi, Regression Analysis of Count Data, 2nd ed., 2013, section 3.2 (Poisson regression).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(al.poisson_nll_loss(np.array([0.0, 1.0]), np.array([1, 3]), reduction="none").round(4))
    [ 1.     -0.2817]
    """
    inputs = open_entries("poisson_nll_loss", logits, target, ignore_index, counts=True)
    if log_input:
        return reduce.entries(inputs, reduction, _LOG_RATE, full, inputs.largest)
    inputs = inputs.not_negative("logits", inputs.logits)
    return reduce.entries(inputs, reduction, _RATE, full, eps)


class PoissonNLLLoss(Loss, function=poisson_nll_loss):
    """The options of `poisson_nll_loss`, bound."""

    log_input: bool = True
    full: bool = False
    eps: float = 1e-8
    reduction: str = "mean"
    ignore_index: int | None = None


#: Beyond it exp(x) is infinite in every dtype, whatever is subtracted.
_FAR = 1e3


def _of_log_rate(xp: Namespace, x: Array, t: Array, full: bool, largest: float) -> Array:
    # A rate of 0 is a logarithm of -inf, which times a count of 0 would be NaN; so would an infinite difference be.
    near = xp.minimum(xp.maximum(x, xp.full_like(x, -largest)), xp.full_like(x, _FAR))
    return _with_factorial(xp, xp.exp(x) - t * near, t, full)


def _of_log_rate_slopes(xp: Namespace, x: Array, t: Array, full: bool, largest: float) -> Array:
    return xp.exp(x) - t


def _of_rate(xp: Namespace, x: Array, t: Array, full: bool, eps: float) -> Array:
    return _with_factorial(xp, x - t * xp.log(_safe_rate(xp, x, t, eps)), t, full)


def _of_rate_slopes(xp: Namespace, x: Array, t: Array, full: bool, eps: float) -> Array:
    return 1.0 - t / _safe_rate(xp, x, t, eps)


def _safe_rate(xp: Namespace, x: Array, t: Array, eps: float) -> Array:
    """Return the rate under the logarithm, 1 where that would be 0 and counts nothing."""
    return x + eps if eps > 0.0 else xp.where(t > 0.0, x, xp.ones_like(x))


def _with_factorial(xp: Namespace, losses: Array, t: Array, full: bool) -> Array:
    if full:
        safe = xp.maximum(t, xp.ones_like(t))
        stirling = (safe + 0.5) * xp.log(safe) - safe + _HALF_LOG_2_PI
        losses = losses + xp.where(t > 1.0, stirling, xp.zeros_like(t))
    return losses


_LOG_RATE = Formula(_of_log_rate, _of_log_rate_slopes)
_RATE = Formula(_of_rate, _of_rate_slopes)


@public
def gaussian_nll_loss(
    logits: tuple[A, B],
    target: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> A:
    r"""Penalise a low density at the target of a normal distribution whose mean and variance are both predicted.

    With the mean :math:`x` and the variance :math:`v` (``logits = (x, v)``) and the target :math:`t`,

    .. math:: \frac12 \left( \log v' + \frac{(x - t)^2}{v'} \right), \qquad v' = \max(v, \epsilon)

    with :math:`\epsilon` (``eps``); with ``full``, :math:`\log(2 \pi) / 2` is added.

    Parameters
    ----------
    logits : tuple of two arrays of one shape
        Mean and variance, of a real floating dtype; variances are at least 0.
    target : array in the shape of the mean
        Of a real floating or integer dtype.
    full : bool
        Whether to add the constant of the log likelihood.
    eps : float, above 0
        The least variance that is believed.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid entries; "parts" returns (total, weight) with mean = total / weight;
        "none" has the shape of the mean, 0 where ignored.
    ignore_index : int or None
        Entries whose target equals it count nowhere; None, the default, ignores nothing.

    Returns
    -------
    array
        0-d, or the shape of the mean for "none", of its library and on its device, in its dtype, at least float32. 0
        where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, logits that are no tuple of two, or a dtype that does not fit.
    ValueError
        Shapes that differ, an option out of range, or a negative variance that is not ignored. On a GPU and under jit,
        vmap and compile a negative one makes the loss NaN.

    Notes
    -----
    A variance below ``eps`` has the gradient that the loss has at ``eps``, as in torch: it is led back up where the
    error is large, instead of being stuck. Nothing is broadcast: one variance for several entries is repeated by the
    caller.

    References
    ----------
    Nix, Weigend, Estimating the Mean and Variance of the Target Probability Distribution, ICNN 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> mean, variance = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    >>> print(al.gaussian_nll_loss((mean, variance), np.array([3.0, 2.0]), reduction="none").round(4))
    [2.     0.6931]
    """
    mean, spread = pair("gaussian_nll_loss", logits, "mean, variance")
    extra = {"logits[1]": spread}
    inputs = open_entries("gaussian_nll_loss", mean, target, ignore_index, extra=extra, names="logits[0]")
    xp, k = inputs.xp, inputs.kernels
    variance = k.where_or(xp, inputs.valid, inputs.one_per_entry("logits[1]", spread), 1.0)
    found = k.host_range(variance)
    inputs = inputs.not_negative("logits[1]", variance, found)
    if found is None or not found[0] >= eps:
        # The limit is a constant to differentiation.
        variance = variance + k.constant(xp.maximum(variance, xp.full_like(variance, eps)) - variance)
    d = k.where_or(xp, inputs.valid, inputs.logits - inputs.target, 0.0)
    # Divided before it is squared, which large differences might not survive.
    losses = xp.log(variance) + d / variance * d
    if full:
        losses = k.where_or(xp, inputs.valid, losses + 2.0 * _HALF_LOG_2_PI, 0.0)
    # Halved after the sum: two passes over all entries less.
    losses = 0.5 * (losses if reduction == "none" else xp.sum(losses))
    return reduce.positions(inputs, losses, reduce.number_of_entries(inputs), reduction)


class GaussianNLLLoss(Loss, function=gaussian_nll_loss):
    """The options of `gaussian_nll_loss`, bound."""

    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"
    ignore_index: int | None = None

"""Regression losses, entry by entry."""

from __future__ import annotations

from typing import Any, TypeVar

from arrayloss import _inputs, _reduce
from arrayloss._inputs import Inputs
from arrayloss._loss import Loss
from arrayloss._options import check

A = TypeVar("A")
Array = Any


def l1_loss(logits: A, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> A:
    r"""Penalise the absolute difference between prediction and target.

    .. math:: |x - t|

    with the prediction :math:`x` (``logits``) and the target :math:`t`; its gradient is the sign of
    :math:`x - t`, and 0 where both are equal.

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
        Entries whose target equals it count nowhere; None ignores nothing.

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
    Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., section 10.6 (absolute error).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(float(al.l1_loss(np.array([1.0, 4.0, 7.0]), np.array([2.0, 2.0, 255.0]))))
    1.5
    """
    inputs, difference = _difference("l1_loss", logits, target, reduction, ignore_index)
    return _reduce.positions(inputs, inputs.absolute(difference), _weight(inputs), reduction)


def mse_loss(logits: A, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> A:
    r"""Penalise the squared difference between prediction and target.

    .. math:: (x - t)^2

    with the prediction :math:`x` (``logits``) and the target :math:`t`.

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
        Entries whose target equals it count nowhere; None ignores nothing.

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
    Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., section 10.6 (squared error).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(float(al.mse_loss(np.array([1.0, 4.0, 7.0]), np.array([2.0, 2.0, 255.0]))))
    2.5
    """
    inputs, difference = _difference("mse_loss", logits, target, reduction, ignore_index)
    return _reduce.positions(inputs, difference * difference, _weight(inputs), reduction)


def _difference(
    function: str, logits: Array, target: Array, reduction: str, ignore_index: int | None
) -> tuple[Inputs, Array]:
    """Return the checked inputs and prediction - target, 0 where ignored."""
    options = check(function, reduction=reduction, ignore_index=ignore_index)
    inputs = _inputs.open_entries(function, logits, target, options["ignore_index"])
    xp, where_or = inputs.xp, inputs.kernels.where_or
    prediction = where_or(xp, inputs.valid, inputs.logits, 0.0)
    return inputs, prediction - where_or(xp, inputs.valid, inputs.target, 0.0)


def _weight(inputs: Inputs) -> Array | float:
    return _reduce.weight_of(inputs, None, inputs.valid, inputs.logits.shape)


class L1Loss(Loss, function=l1_loss):
    """The options of `l1_loss`, bound."""

    reduction: str = "mean"
    ignore_index: int | None = 255


class MSELoss(Loss, function=mse_loss):
    """The options of `mse_loss`, bound."""

    reduction: str = "mean"
    ignore_index: int | None = 255

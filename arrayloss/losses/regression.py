"""Regression losses, entry by entry."""

from __future__ import annotations

from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.entries import open_entries
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import ABSOLUTE, SQUARED

A = TypeVar("A")


@public
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
    return reduce.entries(open_entries("l1_loss", logits, target, ignore_index), reduction, ABSOLUTE)


@public
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
    return reduce.entries(open_entries("mse_loss", logits, target, ignore_index), reduction, SQUARED)


class L1Loss(Loss, function=l1_loss):
    """The options of `l1_loss`, bound."""

    reduction: str = "mean"
    ignore_index: int | None = 255


class MSELoss(Loss, function=mse_loss):
    """The options of `mse_loss`, bound."""

    reduction: str = "mean"
    ignore_index: int | None = 255

"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, replace
from typing import Any, TypeVar

from arrayloss._loss import Loss
from arrayloss._namespace import library_of
from arrayloss._options import check

A = TypeVar("A")


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
        total = total + term
    value: A = library_of(total).kernels.as_array(total)
    return value


def _terms(logits: Any, target: Any, losses: Any, coef: Any, reduction: str | None) -> list[Any]:
    options = check("mixed_loss", losses=losses, coef=coef, reduction=reduction)
    losses, coef = options["losses"], options["coef"]
    if len(losses) != len(coef):
        raise ValueError(f"mixed_loss: coef has {len(coef)} numbers, expected {len(losses)}, one for each of losses")
    if options["reduction"] is not None:
        losses = [replace(loss, reduction=options["reduction"]) for loss in losses]
    as_array = None
    terms = []
    for loss, a in zip(losses, coef, strict=True):
        value = loss(logits, target)
        if isinstance(value, tuple):
            raise ValueError(
                f'mixed_loss: {loss!r} returns the two parts of a mean, expected reduction "mean" or "sum"'
            )
        as_array = as_array or library_of(value).kernels.as_array
        terms.append(as_array(value * a))
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

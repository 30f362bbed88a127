"""Divergences from the probabilities of a teacher: distillation."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.inputs import Inputs
from arrayloss._core.loss import Loss
from arrayloss._core.teachers import open_teacher
from arrayloss._machines.formula import Array, Formula, Namespace, OfClasses
from arrayloss.losses.cross_entropy import reduce_pixels

A = TypeVar("A")


# Both divergences are sums of terms that all but cancel where p and q are close. What is added below is 0 over all
# classes, and makes of each class one of the second order: what normalised the probabilities may be off by a rounding.
def _kl(xp: Namespace, log_p: Array, p: Array, log_q: Array, q: Array) -> Array:
    return q * ((log_q - log_p) - 1.0) + p


def _kl_slopes(xp: Namespace, _log_p: Array, p: Array, _log_q: Array, q: Array) -> Array:
    return p - q


def _cross(xp: Namespace, log_p: Array, _p: Array, _log_q: Array, q: Array) -> Array:
    return -log_p * q


def _cross_slopes(xp: Namespace, _log_p: Array, _p: Array, _log_q: Array, q: Array) -> Array:
    return -q


def _js(xp: Namespace, _log_p: Array, p: Array, _log_q: Array, q: Array, least: float) -> Array:
    a, b = _share(xp, p, q, least), _share(xp, q, p, least)
    return 0.25 * (p + q) * ((a * _log(xp, a, least) - (a - 1.0)) + (b * _log(xp, b, least) - (b - 1.0)))


def _js_slopes(xp: Namespace, _log_p: Array, p: Array, _log_q: Array, q: Array, least: float) -> Array:
    return 0.5 * p * _log(xp, _share(xp, p, q, least), least)


# `least` is a number whose square is normal: derivatives of a ratio divide by the square.
def _share(xp: Namespace, p: Array, q: Array, least: float) -> Array:
    """Return p over the mean of p and q, and 0 where both are 0."""
    return p / xp.maximum(0.5 * (p + q), xp.full_like(p, least))


def _log(xp: Namespace, x: Array, least: float) -> Array:
    """Return log x, finite at 0."""
    return xp.log(xp.maximum(x, xp.full_like(x, least)))


_KL = Formula(_kl, _kl_slopes)
_CROSS = Formula(_cross, _cross_slopes)
_JS = Formula(_js, _js_slopes)


@public
def kl_div_loss(
    logits: A,
    target: Any,
    *,
    labels: Any = None,
    ignore_index: int | None = 255,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise the Kullback-Leibler divergence of the predicted probabilities from those of a teacher.

    With :math:`p = \mathrm{softmax}(\text{logits} / T)`, :math:`q = \mathrm{softmax}(\text{target} / T)` and
    :math:`T` = ``temperature``, the loss of a position is

    .. math:: T^2\, \mathrm{KL}(q \,\|\, p) = T^2 \sum_c q_c\, (\log q_c - \log p_c)

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array in the shape of the logits
        The unnormalised scores of the teacher, of a real floating dtype. They are a constant to differentiation.
    labels : array, optional
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1, to ignore by.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Without ``labels`` all positions count.
    temperature : float, above 0
        What both scores are divided by. The factor :math:`T^2` keeps the size of the gradient.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions; "parts" returns (total, weight) with mean = total / weight;
        "none" is 0 where ignored.
    axis : int
        The class axis of the logits and of the target.

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
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or labels with
        ``ignore_index=255`` and more than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the
        loss NaN.

    Notes
    -----
    A class to which the teacher gives probability 0 (a score of -inf, say) counts nothing, whatever the prediction.
    The mean is over positions of a sum over the classes. ``torch.nn.KLDivLoss`` takes logarithms of probabilities,
    its "mean" divides by the number of entries, classes included, and its "batchmean" by N alone. Cost: a pass over
    both arrays forward, in which the gradient is found too, and one over the gradient backward.

    References
    ----------
    Kullback and Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22, 1951, section 2.
    Temperature: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> teacher, student = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> print(round(float(al.kl_div_loss(student, teacher)), 4))
    0.3278
    """
    inputs = open_teacher("kl_div_loss", logits, target, labels, axis, ignore_index)
    return reduce.valid_positions(inputs, _from_teacher(inputs, _KL, None, temperature), None, reduction)


class KLDivLoss(Loss, function=kl_div_loss):
    """The options of `kl_div_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    temperature: float = 1.0
    reduction: str = "mean"
    axis: int = 1


@public
def js_div_loss(
    logits: A,
    target: Any,
    *,
    labels: Any = None,
    ignore_index: int | None = 255,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise the Jensen-Shannon divergence between the predicted probabilities and those of a teacher.

    With :math:`p = \mathrm{softmax}(\text{logits} / T)`, :math:`q = \mathrm{softmax}(\text{target} / T)`,
    :math:`m = (p + q) / 2` and :math:`T` = ``temperature``, the loss of a position is

    .. math:: \frac{T^2}{2} \sum_c p_c \log\frac{p_c}{m_c} + \frac{T^2}{2} \sum_c q_c \log\frac{q_c}{m_c}

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array in the shape of the logits
        The unnormalised scores of the teacher, of a real floating dtype. They are a constant to differentiation.
    labels : array, optional
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1, to ignore by.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Without ``labels`` all positions count.
    temperature : float, above 0
        What both scores are divided by. The factor :math:`T^2` keeps the size of the gradient.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions; "parts" returns (total, weight) with mean = total / weight;
        "none" is 0 where ignored.
    axis : int
        The class axis of the logits and of the target.

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
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or labels with
        ``ignore_index=255`` and more than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the
        loss NaN.

    Notes
    -----
    The loss of a position is symmetric in prediction and teacher, and at most :math:`T^2 \log 2`, also where they
    share no class; close to 0 float32 keeps its digits. Where a probability is 0 its term is 0. It saturates: a
    prediction far from the teacher has a small gradient. Cost: as `kl_div_loss`, and a logarithm for each entry.

    References
    ----------
    Lin, Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 37, 1991, equation
    4.1 with weights 1/2, with natural logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> teacher, student = np.array([[9.0, -9.0]]), np.array([[-9.0, 9.0]])
    >>> print(round(float(al.js_div_loss(student, teacher)), 4))
    0.6931
    """
    inputs = open_teacher("js_div_loss", logits, target, labels, axis, ignore_index)
    return reduce.valid_positions(inputs, _from_teacher(inputs, _JS, None, temperature), None, reduction)


class JSDivLoss(Loss, function=js_div_loss):
    """The options of `js_div_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    temperature: float = 1.0
    reduction: str = "mean"
    axis: int = 1


@public
def distillation_loss(
    logits: A,
    target: Any,
    *,
    labels: Any = None,
    alpha: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low probability of the true class, and probabilities other than those of a teacher.

    With labels :math:`y` (``labels``), :math:`p^{(T)} = \mathrm{softmax}(\text{logits} / T)`,
    :math:`q^{(T)} = \mathrm{softmax}(\text{target} / T)`, :math:`T` = ``temperature`` and :math:`\alpha` = ``alpha``,
    the loss of a position is

    .. math:: (1 - \alpha)\, (-\log p^{(1)}_y) + \alpha\, T^2\, \mathrm{KL}(q^{(T)} \,\|\, p^{(T)})

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array in the shape of the logits
        The unnormalised scores of the teacher, of a real floating dtype. They are a constant to differentiation.
    labels : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1. With ``alpha=1``
        they may be left out, and serve to ignore by alone.
    alpha : float in [0, 1]
        Share of the teacher; the rest is that of the labels.
    temperature : float, above 0
        What both scores are divided by before they are compared. The factor :math:`T^2` keeps the size of the gradient.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Without ``labels`` all positions count.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions; "parts" returns (total, weight) with mean = total / weight;
        "none" is 0 where ignored.
    axis : int
        The class axis of the logits and of the target.

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
        Shapes or options that do not fit, ``alpha`` below 1 without labels, a label outside [0, C) that is not ignored,
        or labels with ``ignore_index=255`` and more than 255 classes. On a GPU and under jit, vmap and compile a wrong
        label makes the loss NaN.

    Notes
    -----
    The paper has the cross entropy with the teacher where the divergence stands here: both have the same gradient, and
    the divergence is 0 where the student has learnt all there is. A share of 0 takes out even an infinite term. Cost:
    that of cross entropy and of `kl_div_loss`.

    References
    ----------
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> teacher, student, labels = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]), np.array([0])
    >>> print(round(float(al.distillation_loss(student, teacher, labels=labels, alpha=0.5)), 4))
    0.5105
    """
    if labels is None and alpha < 1.0:
        raise ValueError(
            f"distillation_loss: alpha is {alpha:g} and labels is None, expected labels=, the class labels, for the "
            f"share of {1.0 - alpha:g}; or alpha=1.0, the teacher alone"
        )
    inputs = open_teacher("distillation_loss", logits, target, labels, axis, ignore_index)
    terms = []
    if alpha > 0.0:
        terms.append(_from_teacher(inputs, _KL, None, temperature) * alpha)
    if alpha < 1.0:
        nll = inputs.kernels.label_nll(inputs.xp, inputs.logits, inputs.labels, inputs.valid)
        terms.append(nll * (1.0 - alpha))
    return reduce.valid_positions(inputs, sum(terms[1:], start=terms[0]), None, reduction)


class DistillationLoss(Loss, function=distillation_loss):
    """The options of `distillation_loss`, bound."""

    alpha: float = 0.5
    temperature: float = 1.0
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def distill_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    labels: Any = None,
    weight: Any = None,
    ignore_index: int | None = 255,
    top_k_percent_pixels: float = 1.0,
    temperature: float = 1.0,
    pixel_weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the classes that a teacher finds probable.

    With :math:`p = \mathrm{softmax}(\text{logits} / T)`, :math:`q = \mathrm{softmax}(\text{target} / T)`,
    :math:`T` = ``temperature`` and class weights :math:`w` (``weight``), the loss of a position is

    .. math:: -T^2 \sum_c w_c\, q_c \log p_c

    times its ``pixel_weight``.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array in the shape of the logits
        The unnormalised scores of the teacher, of a real floating dtype. They are a constant to differentiation.
    labels : array, optional
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1, to ignore by.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing. Without ``labels`` all positions count.
    top_k_percent_pixels : float in [0, 1]
        Below 1, only the k = int(top_k_percent_pixels * positions in the batch) largest weighted losses count, with
        all that tie with the last of them. Ignored positions are counted in k but never selected.
    temperature : float, above 0
        What both scores are divided by. The factor :math:`T^2` keeps the size of the gradient.
    pixel_weight : array in the shape of the positions, optional
        Non-negative weight of each position.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of positions that count (the sum of ``pixel_weight``); "parts" returns
        (total, weight) with mean = total / weight; "none" is 0 where a position does not count.
    axis : int
        The class axis of the logits and of the target.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in their dtype, at least
        float32. 0 where nothing counts.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or labels with
        ``ignore_index=255`` and more than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the
        loss NaN.

    Notes
    -----
    It is `cross_entropy_loss` with the teacher's probabilities for a target, ignored positions, and a temperature. A
    weight of 0 takes out even an infinite loss. The selection of ``top_k_percent_pixels`` is a constant to
    differentiation. PaddleSeg's class of this name has the labels as a third argument and calls ``pixel_weight``
    semantic_weights; its ``weight`` multiplies the loss of a position by :math:`\sum_c w_c q_c` as a whole, and its
    mean divides by the weights of the labels. Cost: as `kl_div_loss`.

    References
    ----------
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2. Top-k: Wu et al., Bridging
    Category-level and Instance-level Semantic Image Segmentation, 2016, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> teacher, student = np.array([[2.0, 0.0], [0.0, 5.0]]), np.array([[0.0, 0.0], [9.0, 1.0]])
    >>> print(round(float(al.distill_cross_entropy_loss(student, teacher, labels=np.array([1, 255]))), 4))
    0.6931
    """
    weights = {"pixel_weight": pixel_weight}
    inputs = open_teacher("distill_cross_entropy_loss", logits, target, labels, axis, ignore_index, weights)
    losses = _from_teacher(inputs, _CROSS, inputs.per_class("weight", weight), temperature)
    return reduce_pixels(inputs, losses, None, pixel_weight, top_k_percent_pixels, reduction)


class DistillCrossEntropyLoss(Loss, function=distill_cross_entropy_loss):
    """The options of `distill_cross_entropy_loss`, bound."""

    weight: Any = None
    ignore_index: int | None = 255
    top_k_percent_pixels: float = 1.0
    _: KW_ONLY
    temperature: float = 1.0
    reduction: str = "mean"
    axis: int = 1


def _from_teacher(inputs: Inputs, formula: Formula, weight: Array | None, temperature: float) -> Array:
    """Return the losses of all positions, 0 where ignored."""
    numbers = (inputs.least,) if formula is _JS else ()
    how = OfClasses(formula, numbers, "teacher", 1.0 / temperature)
    losses = inputs.kernels.classes(inputs.xp, inputs.logits, inputs.target, None, inputs.valid, weight, how)
    return losses * temperature**2

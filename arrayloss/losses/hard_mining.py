"""Cross entropy on the pixels that matter: the hard ones, and those at edges."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce, select
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.logits import pair
from arrayloss._core.loss import Loss

A = TypeVar("A")
B = TypeVar("B")
Array = Any


@public
def ohem_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    thresh: float = 0.7,
    min_kept: int = 10000,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class where it is lowest (online hard example mining).

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})` and class weights :math:`w`
    (``weight``), the loss of a selected pixel is

    .. math:: w_y\, (-\log p_y)

    If ``min_kept`` is at least the number of valid pixels of the batch all of them are selected; otherwise those with
    :math:`p_y < \text{thresh}` and those with :math:`p_y` at most the ``min_kept``-th smallest.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    thresh : float in [0, 1]
        Pixels whose true class is less probable are hard.
    min_kept : int, at least 0
        Number of pixels of the batch that are selected at least.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    weight : sequence or array of C finite numbers, optional
        Weight of each class. It does not influence the selection.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the sum of the weights :math:`w_y` of the selected pixels; "parts" returns (total, weight)
        with mean = total / weight; "none" is 0 where a pixel is not selected.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in their dtype, at least
        float32. 0 where nothing is selected.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Pixels tied with the last one selected are selected too, so the result does not depend on the order of the pixels.
    The selection is a constant to differentiation. It is made on :math:`-\log p_y`, which tells apart what
    underflows as a probability. Cost: that of cross entropy, and a selection (no full sort) among the pixels.

    References
    ----------
    Shrivastava, Gupta, Girshick, Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
    section 4; thresh and min_kept as in PaddleSeg's OhemCrossEntropyLoss.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> target = np.array([0, 0, 0])
    >>> print(al.ohem_cross_entropy_loss(logits, target, thresh=0.5, min_kept=1, reduction="none").round(4))
    [0.     0.     1.3133]
    """
    inputs = open_classes("ohem_cross_entropy_loss", logits, target, axis, ignore_index)
    return _hard(inputs, thresh, min_kept, inputs.per_class("weight", weight), reduction)


class OhemCrossEntropyLoss(Loss, function=ohem_cross_entropy_loss):
    """The options of `ohem_cross_entropy_loss`, bound."""

    thresh: float = 0.7
    min_kept: int = 10000
    ignore_index: int | None = 255
    _: KW_ONLY
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1


@public
def edge_attention_loss(
    logits: tuple[A, B],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class near edges.

    With the two inputs segmentation logits and edge :math:`e`, labels :math:`y` and
    :math:`p = \mathrm{softmax}(\text{segmentation logits})`, the loss of a valid pixel is

    .. math:: [e > \text{edge\_threshold}]\, (-\log p_y)

    Parameters
    ----------
    logits : tuple of two arrays, shapes (N, C, \*S) and (N, 1, \*S)
        Segmentation logits, the classes on ``axis``, and the edge, both of a real floating dtype. The edge is compared
        as it is given: pass probabilities. Its gradient is 0.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    edge_threshold : float
        Only pixels whose edge exceeds it count.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of pixels that count; "parts" returns (total, weight) with mean = total / weight;
        "none" is 0 where a pixel does not count.
    axis : int
        The class axis of both logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in the dtype of the
        segmentation logits, at least float32. 0 where nothing counts.

    Raises
    ------
    TypeError
        Arrays of two libraries, logits that are no tuple of two, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    A NaN edge does not exceed the threshold.

    References
    ----------
    Takikawa et al., Gated-SCNN: Gated Shape CNNs for Semantic Segmentation, ICCV 2019, equation 5 (its second term).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> scores, edge = np.array([[[2.0, 0.0], [0.0, 0.0]]]), np.array([[[0.1, 0.9]]])
    >>> print(round(float(al.edge_attention_loss((scores, edge), np.array([[0, 1]]))), 4))
    0.6931
    """
    inputs = _open_with_edge("edge_attention_loss", logits, target, edge_threshold, axis, ignore_index)
    losses = inputs.kernels.label_nll(inputs.xp, inputs.logits, inputs.labels, inputs.valid)
    return reduce.valid_positions(inputs, losses, None, reduction)


class EdgeAttentionLoss(Loss, function=edge_attention_loss):
    """The options of `edge_attention_loss`, bound."""

    edge_threshold: float = 0.8
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def ohem_edge_attention_loss(
    logits: tuple[A, B],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    thresh: float = 0.7,
    min_kept: int = 5000,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class near edges, where it is lowest.

    With the two inputs segmentation logits and edge :math:`e`, labels :math:`y` and
    :math:`p = \mathrm{softmax}(\text{segmentation logits})`, the loss of a selected pixel is

    .. math:: -\log p_y

    Candidates are the valid pixels with :math:`e > \text{edge\_threshold}`. If ``min_kept`` is at least their number
    all of them are selected; otherwise those with :math:`p_y < \text{thresh}` and those with :math:`p_y` at most the
    ``min_kept``-th smallest.

    Parameters
    ----------
    logits : tuple of two arrays, shapes (N, C, \*S) and (N, 1, \*S)
        Segmentation logits, the classes on ``axis``, and the edge, both of a real floating dtype. The edge is compared
        as it is given: pass probabilities. Its gradient is 0.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    edge_threshold : float
        Only pixels whose edge exceeds it are candidates.
    thresh : float in [0, 1]
        Candidates whose true class is less probable are hard.
    min_kept : int, at least 0
        Number of candidates of the batch that are selected at least.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of selected pixels; "parts" returns (total, weight) with mean = total / weight;
        "none" is 0 where a pixel is not selected.
    axis : int
        The class axis of both logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in the dtype of the
        segmentation logits, at least float32. 0 where nothing is selected.

    Raises
    ------
    TypeError
        Arrays of two libraries, logits that are no tuple of two, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Pixels tied with the last one selected are selected too. The selection is a constant to differentiation.

    References
    ----------
    Takikawa et al., Gated-SCNN: Gated Shape CNNs for Semantic Segmentation, ICCV 2019, equation 5; Shrivastava, Gupta,
    Girshick, Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> scores, edge = np.array([[[2.0, 0.0], [0.0, 0.0]]]), np.array([[[0.9, 0.9]]])
    >>> print(round(float(al.ohem_edge_attention_loss((scores, edge), np.array([[0, 1]]), min_kept=1)), 4))
    0.6931
    """
    inputs = _open_with_edge("ohem_edge_attention_loss", logits, target, edge_threshold, axis, ignore_index)
    return _hard(inputs, thresh, min_kept, None, reduction)


class OhemEdgeAttentionLoss(Loss, function=ohem_edge_attention_loss):
    """The options of `ohem_edge_attention_loss`, bound."""

    edge_threshold: float = 0.8
    thresh: float = 0.7
    min_kept: int = 5000
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


@public
def bootstrapped_cross_entropy_loss(
    logits: A,
    target: Any,
    *,
    min_K: int,
    loss_th: float,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a low predicted probability of the true class on the hardest pixels of each image.

    With labels :math:`y`, probabilities :math:`p = \mathrm{softmax}(\text{logits})` and class weights :math:`w`
    (``weight``), the loss of a selected pixel is

    .. math:: l = w_y\, (-\log p_y)

    In each image, with its valid pixels ranked by falling :math:`l`: if the (``min_K`` + 1)-th exists and exceeds
    ``loss_th``, all with :math:`l > \text{loss\_th}` are selected, otherwise the ``min_K`` largest (all, where fewer
    are valid).

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    min_K : int, at least 0
        Number of pixels of each image that are selected at least.
    loss_th : float
        Losses above it are selected where there are more than ``min_K`` of them.
    weight : sequence or array of C finite numbers, optional
        Weight of each class; the ranking and the threshold act on the weighted loss.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    reduction : "mean", "sum" or "none"
        "mean" divides, in each image, by the sum of the weights :math:`w_y` of the selected pixels, and is then the
        mean over the images; "none" is 0 where a pixel is not selected, and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the logits, in their dtype, at least
        float32.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    Pixels tied with the last one selected are selected too. The selection is a constant to differentiation. A wholly
    ignored image is left out of the mean over the images.

    References
    ----------
    Cheng et al., Panoptic-DeepLab, CVPR 2020, section 3.2 (weighted bootstrapped cross entropy); min_K and loss_th as
    in PaddleSeg's BootstrappedCrossEntropyLoss.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[3.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    >>> print(round(float(al.bootstrapped_cross_entropy_loss(logits, np.array([[0, 0, 0]]), min_K=2, loss_th=0.1)), 4))
    0.8133
    """
    inputs = open_classes("bootstrapped_cross_entropy_loss", logits, target, axis, ignore_index)
    xp, k = inputs.xp, inputs.kernels
    class_weight = inputs.per_class("weight", weight)
    losses, weights = inputs.weigh(k.label_nll(xp, inputs.logits, inputs.labels, inputs.valid), class_weight)
    kept = select.bootstrapped(inputs, losses, min_K, loss_th)
    losses = k.where_or(xp, kept, losses, 0.0)
    if weights is None:
        weights = xp.ones_like(k.constant(losses))
    return reduce.images(inputs, losses, k.where_or(xp, kept, weights, 0.0), reduction)


class BootstrappedCrossEntropyLoss(Loss, function=bootstrapped_cross_entropy_loss):
    """The options of `bootstrapped_cross_entropy_loss`, bound."""

    min_K: int
    loss_th: float
    weight: Any = None
    ignore_index: int | None = 255
    _: KW_ONLY
    reduction: str = "mean"
    axis: int = 1


def _hard(inputs: Inputs, thresh: float, min_kept: int, class_weight: Array | None, reduction: str) -> Any:
    """Return the reduced cross entropy of the hard pixels among the valid ones."""
    k = inputs.kernels
    losses = k.label_nll(inputs.xp, inputs.logits, inputs.labels, inputs.valid)
    kept = select.hard(inputs, losses, thresh, min_kept)
    losses, weights = inputs.weigh(losses, class_weight)
    losses = k.where_or(inputs.xp, kept, losses, 0.0)
    return reduce.positions(inputs, losses, reduce.weight_of(inputs, weights, kept, losses.shape), reduction)


def _open_with_edge(
    function: str, logits: Any, target: Array, edge_threshold: float, axis: int, ignore_index: int | None
) -> Inputs:
    """Return the inputs of the segmentation logits, valid only where the edge exceeds the threshold."""
    scores, edge = pair(function, logits, "segmentation logits, edge")
    extra = {"logits[1]": edge}
    inputs = open_classes(function, scores, target, axis, ignore_index, extra=extra, names="logits[0]")
    near = inputs.kernels.constant(inputs.one_per_position("logits[1]", edge)) > edge_threshold
    return inputs.only(near)

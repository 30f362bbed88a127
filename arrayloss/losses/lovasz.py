"""Lovasz losses: the Jaccard index made continuous, by its tight convex extension."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.loss import Loss

A = TypeVar("A")
Array = Any


@public
def lovasz_softmax_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    classes: Any = "present",
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small intersection over union of the predicted and the true region of each class.

    With :math:`p = \mathrm{softmax}(\text{logits})` and labels :math:`y`, the errors of class :math:`c` are
    :math:`e_i = |[y_i = c] - p_{ic}|` over the valid pixels, and its loss is the Lovasz extension of the Jaccard loss
    at them,

    .. math:: \sum_i e_{\pi_i}\, (J_i - J_{i-1}), \qquad J_i = 1 - \frac{g - k_i}{g + b_i}

    where :math:`\pi` sorts the errors falling, :math:`g` counts the pixels of the class, and :math:`k_i`, :math:`b_i`
    the positives and negatives among the first :math:`i` errors.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    classes : "present", "all" or a list of classes
        Which classes count: those that occur among the labels, all of them, or the ones listed.
    per_image : bool
        Whether the loss is taken of each image and then averaged over the images, instead of over the pixels of the
        whole batch at once. A wholly ignored image is left out.
    reduction : "mean", "sum" or "none"
        "mean" divides by the number of classes that count; "none" has shape (C,), 0 for classes that do not count
        (with ``per_image`` the mean over the images), and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (C,) for "none", of the library and on the device of the logits, in their dtype, at least float32.
        0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, a label outside [0, C) that is not ignored, or ``ignore_index=255`` with more
        than 255 classes. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    The differences :math:`J_i - J_{i-1}` are taken in closed form from integer counts, without cancellation, and are
    constants to differentiation. Among tied errors they are the mean of the orders that put positives and negatives
    first, so that nothing depends on the order of the pixels. A class without pixels that counts has its largest error
    as its loss. Cost: one sort of all pixels for each class.

    References
    ----------
    Berman, Rannen Triki, Blaschko, The Lovasz-Softmax loss: a tractable surrogate for the optimization of the
    intersection-over-union measure in neural networks, CVPR 2018, equations 8, 9 and 11.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> logits = np.array([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
    >>> print(round(float(al.lovasz_softmax_loss(logits, np.array([[0, 1, 1]]))), 4))
    0.5
    """
    inputs = open_classes("lovasz_softmax_loss", logits, target, axis, ignore_index)
    xp, k = inputs.xp, inputs.kernels
    listed = _listed(inputs, classes)
    p, labels, present = k.softmax(xp, inputs.logits, inputs.valid), inputs.labels, None
    if listed is not None:
        p = xp.stack([p[:, c, ...] for c in listed], axis=1)
        labels = _places(inputs, listed)
    elif classes == "present":
        counts = k.label_counts(xp, labels, inputs.valid, inputs.classes, p.dtype)
        present = (counts if per_image else xp.sum(counts, axis=0, keepdims=True)) > 0.0
    losses = k.lovasz_softmax(xp, p, labels, inputs.valid, per_image)
    return _reduce_classes(inputs, losses, present, listed, per_image, reduction)


class LovaszSoftmaxLoss(Loss, function=lovasz_softmax_loss):
    """The options of `lovasz_softmax_loss`, bound."""

    ignore_index: int | None = 255
    classes: Any = "present"
    _: KW_ONLY
    per_image: bool = False
    reduction: str = "mean"
    axis: int = 1


@public
def lovasz_hinge_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise a small intersection over union of the predicted and the true foreground, by its margins.

    With the score :math:`z` of the foreground and labels :math:`y` in {0, 1}, the errors are
    :math:`e_i = \max(0,\, 1 - z_i (2 y_i - 1))` over the valid pixels, and the loss is the Lovasz extension of the
    Jaccard loss at them,

    .. math:: \sum_i e_{\pi_i}\, (J_i - J_{i-1}), \qquad J_i = 1 - \frac{g - k_i}{g + b_i}

    where :math:`\pi` sorts the errors falling, :math:`g` counts the foreground pixels, and :math:`k_i`, :math:`b_i` the
    positives and negatives among the first :math:`i` errors.

    Parameters
    ----------
    logits : array, shape (N, 1, \*S) or (N, 2, \*S), (1,) or (2,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``: that of the foreground, or of background
        and foreground, whose difference :math:`z_1 - z_0` is then the score.
    target : array
        Labels 0 and 1 of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    per_image : bool
        Whether the loss is taken of each image and then averaged over the images, instead of over the pixels of the
        whole batch at once. A wholly ignored image is left out.
    reduction : "mean", "sum" or "none"
        There is one class: "mean" and "sum" are its loss, and "none" is it in shape (1,).
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (1,) for "none", of the library and on the device of the logits, in their dtype, at least float32.
        0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes that do not fit, more than two classes, an option out of range, or a label other than 0 and 1 that is not
        ignored. On a GPU and under jit, vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    The differences :math:`J_i - J_{i-1}` are taken in closed form from integer counts, without cancellation, and are
    constants to differentiation. Among tied errors they are the mean of the orders that put positives and negatives
    first. At :math:`e = 0` the gradient is 0.

    References
    ----------
    Yu and Blaschko, Learning Submodular Losses with the Lovasz Hinge, ICML 2015; Berman, Rannen Triki, Blaschko, The
    Lovasz-Softmax loss, CVPR 2018, equations 6 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> print(float(al.lovasz_hinge_loss(np.array([[[2.0, -2.0, 0.5]]]), np.array([[1, 0, 0]]))))
    0.75
    """
    inputs = open_classes("lovasz_hinge_loss", logits, target, axis, ignore_index, label_classes=2)
    xp, k = inputs.xp, inputs.kernels
    if inputs.classes > 2:
        raise ValueError(
            f"lovasz_hinge_loss: logits has shape {tuple(inputs.logits.shape)}, expected one class (the score of the "
            f"foreground) or two on axis {axis}; lovasz_softmax_loss takes more"
        )
    z = inputs.logits
    if inputs.classes == 2:
        z = k.where_valid(xp, inputs.valid, z)
        z = z[:, 1:, ...] - z[:, :1, ...]
    losses = k.lovasz_hinge(xp, z, inputs.labels, inputs.valid, per_image)
    return _reduce_classes(inputs, losses, None, None, per_image, reduction)


class LovaszHingeLoss(Loss, function=lovasz_hinge_loss):
    """The options of `lovasz_hinge_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    per_image: bool = False
    reduction: str = "mean"
    axis: int = 1


def _listed(inputs: Inputs, classes: Any) -> tuple[int, ...] | None:
    """Return the classes given as a list, checked, or None."""
    if isinstance(classes, str):
        return None
    if max(classes) >= inputs.classes:
        raise ValueError(
            f"{inputs.function}: classes is {list(classes)}, expected classes in [0, {inputs.classes}) for logits of "
            f"{inputs.classes} classes"
        )
    return tuple(classes)


def _places(inputs: Inputs, listed: tuple[int, ...]) -> Array:
    """Return labels as places in the list, the length of the list where they are not in it."""
    xp, labels = inputs.xp, inputs.labels
    places = xp.full_like(labels, len(listed))
    for place, c in enumerate(listed):
        places = xp.where(labels == c, xp.full_like(labels, place), places)
    return places


def _reduce_classes(
    inputs: Inputs,
    losses: Array,
    present: Array | None,
    listed: tuple[int, ...] | None,
    per_image: bool,
    reduction: str,
) -> Array:
    """Reduce losses `(sets, K)` of classes, of which only those `present` count, with the mean over the sets.

    A set is an image or the batch. Images without anything valid are left out of the mean.
    """
    xp, k = inputs.xp, inputs.kernels
    losses = k.where_or(xp, present, losses, 0.0)
    sets = reduce.weight_of(inputs, None, inputs.seen, (losses.shape[0],)) if per_image else 1.0
    if reduction == "mean":
        counts: Array | float = float(losses.shape[1])
        if present is not None:
            counts = xp.sum(xp.astype(present, losses.dtype), axis=1)
        means = reduce.ratio(inputs, xp.sum(losses, axis=1), counts)
        return reduce.finish(inputs, reduce.ratio(inputs, xp.sum(means), sets))
    per_class = reduce.ratio(inputs, xp.sum(losses, axis=0), sets)
    if reduction == "sum":
        return reduce.finish(inputs, xp.sum(per_class))
    if listed is not None:
        zero = xp.zeros_like(per_class[0, ...])
        per_class = xp.stack(
            [per_class[listed.index(c), ...] if c in listed else zero for c in range(inputs.classes)], axis=0
        )
    return reduce.finish(inputs, per_class)

"""Losses of connected regions: whether the parts of an object hang together as they should."""

from __future__ import annotations

import math
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
def semantic_connectivity_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    max_components: int = 10,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise predicted regions that fall apart, grow together or lie where nothing is, component by component.

    With :math:`p = \mathrm{softmax}(\text{logits})`, let :math:`A_i` be the connected components of the pixels of an
    image at which class :math:`c` has the largest score, :math:`A` all of these pixels, and :math:`B_j` and :math:`B`
    those of the pixels labelled :math:`c`. The connectivity of the class is

    .. math::

        S_{nc} = \frac{\sum_j s_j}{g + \ell}, \qquad
        s_j = \frac{1}{m_j} \sum_{i:\, A_i \cap B_j \neq \emptyset} \frac{\sum_{A_i \cap B_j} p_c
              + \sum_{B_j \setminus A} p_c}{|B_j| + \sum_{A_i \setminus B_j} p_c}, \qquad
        \ell = \sum_{i:\, A_i \cap B = \emptyset} \frac{1}{|A_i|} \sum_{A_i} p_c

    with :math:`g` components :math:`B_j`, of which one meets :math:`m_j` predicted ones; one that meets none has
    :math:`s_j = \sum_{B_j \setminus A} p_c\, /\, |B_j|`. The loss of the class is :math:`1 - S_{nc}`, and where no
    :math:`A_i` meets any :math:`B_j` it has :math:`(\sum_{A \setminus B} p_c + \sum_B (1 - p_c))\, /\, P` on top, with
    :math:`P` valid pixels in the image.

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    ignore_index : int or None
        Label of pixels that count nowhere and connect nothing; None ignores nothing.
    max_components : int, at least 1
        How many predicted and how many true components of a class count in an image, the largest ones.
    reduction : "mean", "sum" or "none"
        "mean" is the mean over the classes that the target has in an image, and then over the images with a valid
        pixel; "none" has shape (N, C), 0 for classes that an image does not have, and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, C) for "none", of the library and on the device of the logits, in their dtype, at least
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
    Pixels are connected that share a side or a corner: 8 neighbours in an image, 26 in a volume. Among tied scores the
    first class is predicted. Components are constants to differentiation, and :math:`p` is what carries the gradient:
    it grows on what is missed of a true component, which joins the pieces found of it, and falls where a piece reaches
    beyond and on pieces that lie on nothing. Where :math:`p` is 0 or 1 the fractions are the intersections over unions
    of the pairs of components, a predicted component that meets nothing counts 1 in the denominator, and
    :math:`S_{nc}` is the connectivity of the paper.

    A class that is predicted in an image but not there has no loss: its pixels are missed by another class. Components
    beyond the `max_components` largest (among equal ones the first by position) are matched with nothing and count
    nowhere, but a predicted one that meets one of them does not lie on nothing. PaddleSeg's
    ``SemanticConnectivityLoss`` differs: it takes the predicted component by their order, background included in the
    number, and only where they are more than twice the true ones; it weighs pixels by the number of their class, so
    that its values fit class 1 alone; its argmax has no gradient; it adds the area only where a class is not
    predicted at all; and predictions at ignored pixels count.

    Cost: labelling the components, twice, and two entries of the softmax of each pixel. NumPy, and torch and JAX on the
    CPU, label on the host, in a time that hardly depends on the shape of the regions; under `torch.compile` and
    `torch.func` through an operator of its own. On other devices torch takes a number of rounds that is enough for any
    shape, each with a sort of all pixels, 2 log2(P) of them, and JAX as many as the shapes need. Memory grows by
    N C (max_components + 2)^2.

    References
    ----------
    Chu et al., PP-HumanSeg: Connectivity-Aware Portrait Segmentation with a Large-Scale Teleconferencing Video Dataset,
    WACV Workshops 2022, section 3.2, with hard predictions; where nothing meets, as in its published code.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[[0, 1, 1, 1, 1, 0]]])
    >>> torn = np.array([[[0, 1, 0, 1, 1, 0]]])
    >>> logits = np.stack([1 - torn, torn], axis=1) * 50.0
    >>> print(al.semantic_connectivity_loss(logits, target, reduction="none").round(4))
    [[0.3333 0.625 ]]
    """
    inputs = open_classes("semantic_connectivity_loss", logits, target, axis, ignore_index)
    xp, k = inputs.xp, inputs.kernels
    sums, sizes = _tables(inputs, max_components)
    true = xp.sum(xp.sum(sizes[:, :, :, :-1], axis=3), axis=2)
    losses = 1.0 - _connectivity(inputs, sums[:, :, :-2, :], sums[:, :, -1, :-2], sizes)
    # The area that is wrong, over the valid pixels of the image, each of which has one label. It is of every component:
    # through it a NaN that does not count reaches the result.
    area = xp.sum(sums[:, :, :-1, -1], axis=2) - xp.sum(xp.sum(sums[:, :, :, :-1], axis=3), axis=2) + true
    apart = ~xp.any(sizes[:, :, :-2, :-2] > 0.0, axis=(2, 3))
    losses = losses + xp.where(apart, reduce.ratio(inputs, area, xp.sum(true, axis=1, keepdims=True)), area * 0.0)
    there = true > 0.0
    losses = k.where_or(xp, there, losses, 0.0)
    return reduce.images(inputs, losses, xp.astype(there, losses.dtype), reduction)


class SemanticConnectivityLoss(Loss, function=semantic_connectivity_loss):
    """The options of `semantic_connectivity_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    max_components: int = 10
    reduction: str = "mean"
    axis: int = 1


def _tables(inputs: Inputs, most: int) -> tuple[Array, Array]:
    """Return, for each image and class, the sums of p_c over the parts that components divide the pixels into.

    Both tables have shape `(N, C, most + 2, most + 2)`: sums, and numbers of pixels. Rows are predicted components,
    `most` of them, then what is in smaller ones, then what is not predicted to be of the class; columns are the same of
    the true ones. Pixels that are neither (the last row of the last column) are left out.
    """
    xp, k, labels, side = inputs.xp, inputs.kernels, inputs.labels, most + 2
    predicted = xp.astype(k.top_class(xp, k.constant(inputs.logits)), labels.dtype)
    row, column = (
        k.components(xp, k.where_or(xp, inputs.valid, y, -1), inputs.classes, most) for y in (predicted, labels)
    )
    right = predicted == labels
    outside = xp.full_like(labels, side - 1)
    # A pixel stands in the table of its predicted class, and in that of its label where that is another one.
    bins = [
        (predicted * side + row) * side + xp.where(right, column, outside),
        (labels * side + outside) * side + column,
    ]
    wrong = ~right
    valid = xp.ones_like(wrong) if inputs.valid is None else inputs.valid
    counted = xp.astype(xp.stack([valid, valid & wrong], axis=1), inputs.logits.dtype)
    p = xp.stack([xp.exp(-k.label_nll(xp, inputs.logits, y, inputs.valid)) for y in (predicted, labels)], axis=1)
    images, entries = labels.shape[0], 2 * math.prod(labels.shape[1:])

    def table(x: Array) -> Array:
        size = inputs.classes * side**2
        totals = k.bin_totals(xp, xp.reshape(x, (images, entries)), flat, size)
        return xp.reshape(totals, (images, inputs.classes, side, side))

    flat = xp.reshape(xp.stack(bins, axis=1), (images, entries))
    return table(p * counted), table(counted)


def _connectivity(inputs: Inputs, found: Array, missed: Array, sizes: Array) -> Array:
    """Return the mean intersection over union of the components `(N, C)`.

    `found` are the sums of p over the predicted components that count, by the true ones they meet; `missed` those over
    what is not predicted of each true one.
    """
    xp, k = inputs.xp, inputs.kernels
    meet = sizes[:, :, :-2, :-2] > 0.0
    true = xp.sum(sizes[:, :, :, :-2], axis=2)
    overlap, mass = found[:, :, :, :-2], xp.sum(found, axis=3)
    union = xp.expand_dims(mass, axis=3) - overlap + xp.expand_dims(true, axis=2)
    pairs = reduce.ratio(inputs, overlap + xp.expand_dims(missed, axis=2), k.where_or(xp, meet, union, 0.0))
    number = xp.sum(xp.astype(meet, true.dtype), axis=2)
    each = xp.where(
        number > 0.0, reduce.ratio(inputs, xp.sum(pairs, axis=2), number), reduce.ratio(inputs, missed, true)
    )
    # A predicted component on which nothing is counts as far as it is believed in.
    lone = ~xp.any(sizes[:, :, :-2, :-1] > 0.0, axis=3)
    area = xp.sum(sizes[:, :, :-2, :], axis=3)
    extra = k.where_or(xp, lone, reduce.ratio(inputs, mass, area), 0.0)
    count = xp.sum(extra, axis=2) + xp.sum(xp.astype(true > 0.0, true.dtype), axis=2)
    return reduce.ratio(inputs, xp.sum(each, axis=2), count)

"""Losses of the relations between pixels: how neighbours vary together, and how near the pixels of a class lie."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, replace
from typing import Any, TypeVar

from arrayloss._core import reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.logits import class_axis_to_1, open_logits, pair
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import NEVER
from arrayloss._machines.namespace import device_of

A = TypeVar("A")
B = TypeVar("B")
Array = Any

#: Embeddings shorter than this have no direction.
_SHORT = 1e-6


@public
def rmi_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    radius: int = 3,
    pool: str = "avg",
    stride: int = 3,
    bce_weight: float = 0.5,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise neighbourhoods of the target that those of the prediction do not explain (region mutual information).

    With the one-hot target :math:`t` and :math:`p = \mathrm{sigmoid}(\text{logits})`, both pooled over cells of
    ``stride`` x ``stride`` pixels, :math:`Y` and :math:`P` are the vectors of the :math:`d = \text{radius}^2` cells of
    each window of ``radius`` x ``radius`` cells. With the covariances :math:`\Sigma` of these vectors over the windows
    of an image, :math:`n` in number, and :math:`\alpha = 5 \cdot 10^{-4} / n`, the loss of a class in an image is

    .. math:: \lambda\, b + (1 - \lambda)\, \frac{1}{2d} \log \det (M + \alpha I), \qquad
        M = \Sigma_{YY} - \Sigma_{YP} (\Sigma_{PP} + \alpha I)^{-1} \Sigma_{YP}^T

    where :math:`\lambda` is ``bce_weight`` and :math:`b` is the mean over the pixels of the image of the binary cross
    entropy, :math:`\mathrm{softplus}(z) - t z` at logits :math:`z`. :math:`M` is the covariance that is left of the
    target's neighbourhoods where the best linear prediction from those of :math:`p` is known; the second term is, up to
    a constant, a lower bound on their mutual information with its sign turned.

    Parameters
    ----------
    logits : array, shape (N, C, H, W)
        Unnormalised scores of images, of a real floating dtype, the classes on ``axis``; each class is judged on its
        own.
    target : array, shape (N, H, W) or (N, 1, H, W)
        Class labels of any integer dtype or bool; or probabilities in [0, 1] of a real floating dtype in the shape of
        the logits, which are then :math:`t`.
    ignore_index : int or None
        Label of pixels that count nowhere; None ignores nothing. Probability targets have no label to ignore.
    radius : int, at least 1
        Cells along a side of a window.
    pool : "avg" or "max"
        What a cell takes of its pixels: their mean or their largest value.
    stride : int, at least 1
        Pixels along a side of a cell; 1 pools nothing.
    bce_weight : float in [0, 1]
        Weight :math:`\lambda` of the binary cross entropy. 1 leaves it alone, 0 leaves it out.
    reduction : "mean", "sum" or "none"
        "mean" is the mean over images and classes; "none" has shape (N, C), and "sum" is the sum of that.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or shape (N, C) for "none", of the library and on the device of the logits, in their dtype, at least
        float32. It may be negative. 0 where nothing is valid.

    Raises
    ------
    TypeError
        Arrays of two libraries, or a dtype that does not fit.
    ValueError
        Shapes or options that do not fit, images smaller than a window (``radius * stride`` pixels a side), a label
        outside [0, C) that is not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit,
        vmap and compile a wrong label makes the loss NaN.

    Notes
    -----
    A window counts if all its pixels are valid. "mean" is a mean of each term: of the cross entropies over the images
    with a valid pixel, of the second term over those with a window; "none" is 0 where there is neither. Cells begin at
    the first pixel, and those that the far border cuts are left out.
    :math:`M` is computed as the covariance of what the linear prediction leaves, in a basis of cosines: no difference
    of large numbers is taken. In float32 the value is right to about six digits, and the gradient too unless it all but
    vanishes because the prediction explains everything.

    The published code and PaddleSeg's differ in this: their covariances are sums, so that their logarithm is larger by
    :math:`\frac{1}{2} \log n`, with the same gradient; they sum over the classes; they pad images by half a cell of
    zeros; they set ignored pixels to 0 and count them; their default is ``pool="max"``. PaddleSeg has no cross entropy
    in it, which is ``bce_weight=0``, and the published one is a mean over all pixels of the batch.

    Cost: that of a binary cross entropy, a pass for the pooling, and products of matrices of :math:`d` rows and
    :math:`n` columns for each class.

    References
    ----------
    Zhao, Wang, Yang, Cai, Region Mutual Information Loss for Semantic Segmentation, NeurIPS 2019, section 3; pooling
    and :math:`\alpha` as in its published code.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.arange(64).reshape(1, 8, 8) // 3 % 2
    >>> sure = np.stack([1 - 2 * target, 2 * target - 1], axis=1) * 9.0
    >>> for logits in (sure, sure * 0.0):
    ...     print(round(float(al.rmi_loss(logits, target, radius=2, stride=1)), 4))
    -2.7431
    -0.6224
    """
    inputs = _open_windows(logits, target, radius, stride, axis, ignore_index)
    if math.prod(inputs.logits.shape) == 0:
        none = inputs.kernels.sum_positions(inputs.xp, inputs.logits)
        return reduce.regions(inputs, none, None, None, reduction)
    z = inputs.kernels.where_valid(inputs.xp, inputs.valid, inputs.logits)
    # What has no weight is not computed: infinite or not, it counts nothing.
    terms = []
    if bce_weight > 0.0:
        terms.append((_cross_entropies(inputs, z) * bce_weight, inputs.seen))
    if bce_weight < 1.0:
        cells = _valid_cells(inputs, stride)
        unexplained = _unexplained(inputs, z, cells, radius, stride, pool)
        terms.append((unexplained * (1.0 - bce_weight), _with_window(inputs.xp, cells, radius)))
    # Each term has a mean of its own: an image may have valid pixels and no whole window.
    values = [reduce.regions(inputs, term, None, seen, reduction) for term, seen in terms]
    return inputs.kernels.as_array(sum(values[1:], start=values[0]))


class RMILoss(Loss, function=rmi_loss):
    """The options of `rmi_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    radius: int = 3
    pool: str = "avg"
    stride: int = 3
    bce_weight: float = 0.5
    reduction: str = "mean"
    axis: int = 1


def _open_windows(
    logits: Array, target: Array, radius: int, stride: int, axis: int, ignore_index: int | None
) -> Inputs:
    """Return the inputs of `rmi_loss`, images in which there is room for a window, or none at all."""
    inputs = open_classes("rmi_loss", logits, target, axis, ignore_index, probabilities=True, ranks=(4,))
    height, width = inputs.logits.shape[2:]
    side = radius * stride
    if height * width and min(height, width) < side:
        raise ValueError(
            f"rmi_loss: logits has shape {tuple(logits.shape)}, expected images of at least {side} x {side} pixels for "
            f"windows of radius {radius} in cells of stride {stride}"
        )
    return inputs


def _cross_entropies(inputs: Inputs, z: Array) -> Array:
    """Return the mean binary cross entropy of each class in each image, shape `(N, C)`."""
    xp, k = inputs.xp, inputs.kernels
    # Nothing cancels, as softplus(z) - t z would where a score is large and right.
    if inputs.labels is None:
        t = inputs.target
        losses = inputs.scale(k.softplus(xp, -z), t) + inputs.scale(k.softplus(xp, z), 1.0 - t)
    else:
        losses = k.softplus(xp, xp.where(k.one_hot(xp, inputs.labels, inputs.classes), -z, z))
    losses = k.where_valid(xp, inputs.valid, losses)
    pixels: Array | float = float(math.prod(z.shape[2:]))
    if inputs.valid is not None:
        pixels = xp.expand_dims(xp.sum(xp.astype(inputs.valid, z.dtype), axis=(1, 2)), axis=1)
    return reduce.ratio(inputs, k.sum_positions(xp, losses), pixels)


def _valid_cells(inputs: Inputs, stride: int) -> Array | None:
    """Return which cells have no ignored pixel, shape `(N, 1, rows, columns)`; None: all."""
    if inputs.valid is None:
        return None
    ignored = inputs.xp.astype(inputs.xp.expand_dims(~inputs.valid, axis=1), inputs.logits.dtype)
    return _pooled(inputs.xp, ignored, stride, "max") == 0.0


def _with_window(xp: Any, cells: Array | None, radius: int) -> Array | None:
    """Return which images `(N, 1)` have a window of valid cells alone; None: all."""
    if cells is None:
        return None
    for _ in range(radius - 1):
        cells = cells[:, :, 1:, 1:] & cells[:, :, 1:, :-1] & cells[:, :, :-1, 1:] & cells[:, :, :-1, :-1]
    return xp.any(xp.any(cells, axis=3), axis=2)


def _unexplained(inputs: Inputs, z: Array, cells: Array | None, radius: int, stride: int, pool: str) -> Array:
    """Return log det (M + alpha I) / 2d of each class in each image, shape `(N, C)`, 0 without a window."""
    xp, k = inputs.xp, inputs.kernels
    # Of the largest logit the probability is the largest, and the other pixels of the cell need none. Half the
    # hyperbolic tangent is the sigmoid but for a constant, which no covariance sees.
    z = xp.tanh(_pooled(xp, z, stride, pool) * 0.5) if pool == "max" else _pooled(xp, xp.tanh(z * 0.5), stride, pool)
    true = inputs.target
    if true is None:
        true = xp.astype(k.one_hot(xp, inputs.labels, inputs.classes), z.dtype)
    return k.unexplained(xp, z * 0.5, _pooled(xp, true, stride, pool), cells, radius) / (2.0 * radius**2)


def _pooled(xp: Any, x: Array, stride: int, pool: str) -> Array:
    """Return the mean or the largest value of each cell of `stride` x `stride` pixels."""
    if stride == 1:
        return x
    rows, columns = x.shape[2] // stride, x.shape[3] // stride
    whole = x[:, :, : rows * stride, : columns * stride]
    cells = xp.reshape(whole, (*x.shape[:2], rows, stride, columns, stride))
    return (xp.mean if pool == "avg" else xp.max)(cells, axis=(3, 5))


@public
def pixel_contrast_loss(
    logits: tuple[A, B],
    target: Any,
    *,
    ignore_index: int | None = 255,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    max_samples: int = 1024,
    max_views: int = 100,
    noise: Any = None,
    rng: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise pixels of one class whose embeddings are no nearer to each other than to those of other classes.

    With the two inputs embedding and segmentation logits, labels :math:`y` and unit vectors
    :math:`e = \text{embedding} / \lVert \text{embedding} \rVert`, the loss of an anchor pixel :math:`i` is

    .. math:: \frac{\tau}{\tau_0} \frac{1}{|P_i|} \sum_{j \in P_i} - \log
        \frac{\exp(e_i \cdot e_j / \tau)}{\exp(e_i \cdot e_j / \tau) + \sum_{k \in N_i} \exp(e_i \cdot e_k / \tau)}

    with :math:`\tau` = ``temperature``, :math:`\tau_0` = ``base_temperature``, :math:`P_i` the other anchors of its
    class and :math:`N_i` the anchors of other classes, both in all images of the batch.

    Anchors are drawn among the valid pixels of every class with at least ``max_views`` of them in an image: of each
    such class and image the same number, ``max_views`` or ``max_samples`` divided by the number of these pairs, rounded
    down, if that is less, and at least 1. Half of them (rounded down) are hard pixels, which the segmentation logits
    take for another class, and half easy ones; where there are too few of one kind, the other makes up for it.

    Parameters
    ----------
    logits : tuple of two arrays, shapes (N, D, \*S) and (N, C, \*S)
        Embedding and segmentation logits, both of a real floating dtype, D and C on ``axis``. The segmentation logits
        only tell hard pixels from easy ones, and get a zero gradient.
    target : array, shape (N, \*S), or with a class axis of length 1
        Class labels of any integer dtype or bool.
    ignore_index : int or None
        Label of pixels that are never anchors; None ignores nothing.
    temperature : float, above 0
        Temperature :math:`\tau` of the similarities.
    base_temperature : float, above 0
        The loss is multiplied by ``temperature / base_temperature``.
    max_samples : int, at least 1
        Number of anchors of the batch, which only the one anchor that every pair of class and image has may exceed.
    max_views : int, at least 1
        Number of anchors of a class in an image, and the number of pixels a class needs there to have any.
    noise : array of one number per position, or the number 0, optional
        The pixels of each class and kind are taken in the order of their numbers, the smallest first; 0 for the order
        of the pixels. Passed in the call.
    rng : numpy.random.Generator, cupy.random.Generator, torch.Generator or JAX key, optional
        What to draw the noise from, of the library of the logits (NumPy's for libraries without one). With neither
        `noise` nor `rng` NumPy, CuPy and torch draw from their default generator. Passed in the call.
    reduction : "mean", "sum" or "none"
        "mean" divides by the number of anchors that have another one of their class; "none" has shape (N, \*S), 0 at
        pixels that are no anchors.
    axis : int
        The axis of D and of C.

    Returns
    -------
    array
        0-d, or shape (N, \*S) for "none", of the library and on the device of the embedding, in its dtype, at least
        float32. 0 without anchors.

    Raises
    ------
    TypeError
        ``logits`` is no tuple of two arrays, arrays of two libraries, or a dtype or a generator that does not fit.
    ValueError
        Shapes or options that do not fit, both `noise` and `rng`, neither of them with JAX, a label outside [0, C) that
        is not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit, vmap and compile a
        wrong label makes the loss NaN.

    Notes
    -----
    The choice of anchors is a constant to differentiation. Pixels whose own class ties with the highest score are easy.
    An anchor without another one of its class has no loss and does not count; one without any of another class has loss
    0. An embedding shorter than 1e-6 counts as 0, with gradient 0. The loss compares pixels across the batch, so it is
    no sum over images, and there is no "parts".

    The published code and PaddleSeg's leave normalising to the network and ask for more than ``max_views`` pixels of a
    class; they resize the labels to the embedding, where sizes must be equal here; they fail where no class has
    enough pixels. The factor :math:`\tau / \tau_0` is theirs; ``base_temperature=temperature`` gives the paper's loss,
    which also draws from a memory of earlier batches.

    Cost: two sorts of the pixels of each image, and some passes over the similarities of all pairs of anchors.

    References
    ----------
    Wang et al., Exploring Cross-Image Pixel Contrast for Semantic Segmentation, ICCV 2021, section 3.2
    (pixel-to-pixel contrast and segmentation-aware hard anchor sampling); the numbers of anchors as in its published
    code. Khosla et al., Supervised Contrastive Learning, NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[0, 0, 1, 1]])
    >>> embedding = np.array([[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]]])
    >>> scores = np.stack([target == 0, target == 1], axis=1) * 1.0
    >>> print(al.pixel_contrast_loss((embedding, scores), target, temperature=1.0, base_temperature=1.0, max_views=2,
    ...                              noise=0, reduction="none").round(4))
    [[0.5514 0.5514 0.5514 0.5514]]
    """
    scores, inputs = _open_embedding("pixel_contrast_loss", logits, target, axis, ignore_index)
    xp, k = inputs.xp, inputs.kernels
    ranks = inputs.drawn(inputs.labels, noise, rng)
    if ranks is None:
        ranks = inputs.one_per_position("noise", noise)
    if math.prod(inputs.labels.shape) == 0:
        return reduce.positions(inputs, xp.sum(inputs.logits, axis=1), 0.0, reduction)
    places, classes = _anchors(scores, ranks, max_samples, max_views)
    embedding = _unit(inputs, k.take_positions(xp, inputs.logits, places))
    losses, counted = _contrasts(inputs, embedding, classes, temperature)
    losses = losses * (temperature / base_temperature)
    divisor = reduce.weight_of(inputs, None, counted, losses.shape)
    if reduction == "none":
        losses = k.put_positions(xp, losses, places, tuple(inputs.labels.shape))
    return reduce.positions(inputs, losses, divisor, reduction)


class PixelContrastLoss(Loss, function=pixel_contrast_loss):
    """The options of `pixel_contrast_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    temperature: float = 0.1
    base_temperature: float = 0.07
    max_samples: int = 1024
    max_views: int = 100
    reduction: str = "mean"
    axis: int = 1


def _open_embedding(
    function: str, logits: Any, target: Array, axis: int, ignore_index: int | None
) -> tuple[Inputs, Inputs]:
    """Return the inputs of the segmentation logits, and the same with the embedding in their place."""
    embedding, scores = pair(function, logits, "embedding, segmentation logits")
    named = {"logits[0]": embedding, "logits[1]": scores, "target": target}
    _, vectors = open_logits(function, named, "logits[0]")
    inputs = open_classes(function, scores, target, axis, ignore_index, names="logits[1]")
    # A single score without a batch axis has its classes at 0, whatever the option says.
    axis = inputs.axis
    rest = tuple(scores.shape[:axis]) + tuple(scores.shape[axis + 1 :])
    if embedding.ndim != scores.ndim or tuple(embedding.shape[:axis]) + tuple(embedding.shape[axis + 1 :]) != rest:
        raise ValueError(
            f"{function}: logits[0] has shape {tuple(embedding.shape)}, expected that of logits[1], "
            f"{tuple(scores.shape)}, on every axis but {axis}"
        )
    return inputs, replace(inputs, logits=class_axis_to_1(inputs.xp, vectors, axis))


def _anchors(scores: Inputs, ranks: Array, max_samples: int, max_views: int) -> tuple[Array, Array]:
    """Return the flat positions of the anchors and their classes; an unused slot has the position behind the last, -1.

    The number of slots is fixed by the shapes: what depends on the data is how many of them are used.
    """
    xp, k = scores.xp, scores.kernels
    images, classes, positions = scores.logits.shape[0], scores.classes, math.prod(scores.labels.shape[1:])
    pairs = images * min(classes, positions // max_views)
    slots = max(min(pairs * max_views, max(max_samples, pairs)), 1)
    kinds = scores.labels * 2 + xp.astype(_is_hard(scores), scores.labels.dtype)
    counts = k.label_counts(xp, kinds, scores.valid, 2 * classes, kinds.dtype)
    quotas = _quotas(xp, k, xp.reshape(counts, (images, classes, 2)), max_samples, max_views)
    quotas = xp.reshape(quotas, (images * classes * 2,))
    ends = k.running_sum(xp, quotas)
    slot = _steps(xp, quotas, slots)
    used = slot < ends[-1]
    group = xp.sum(xp.astype(xp.expand_dims(ends, axis=0) <= xp.expand_dims(slot, axis=1), slot.dtype), axis=1)
    group = xp.where(used, xp.astype(group, slot.dtype), xp.zeros_like(slot))
    starts = xp.reshape(k.running_sum(xp, counts) - counts, quotas.shape)
    # The place of the slot among the pixels of its group, and with the groups and images before it.
    within = slot - k.take_class(xp, ends - quotas, group) + k.take_class(xp, starts, group)
    first = group // (2 * classes) * positions
    order = xp.reshape(_by_kind(scores, kinds, ranks), (images * positions,))
    places = k.take_class(xp, order, xp.where(used, first + within, xp.zeros_like(slot)))
    label = group % (2 * classes) // 2
    none = xp.full_like(slot, images * positions)
    return xp.where(used, xp.astype(places, slot.dtype), none), xp.where(used, label, xp.full_like(slot, -1))


def _is_hard(scores: Inputs) -> Array:
    """Return the mask of pixels of which another class has a higher score than their own."""
    xp, k = scores.xp, scores.kernels
    z = k.constant(scores.logits)
    images, classes, positions = z.shape[0], z.shape[1], math.prod(z.shape[2:])
    labels = xp.reshape(scores.labels, (images, positions))
    # Flat indices: torch traces `take_along_axis` for one batch size alone.
    index = (_starts(xp, labels, classes) + labels) * positions
    index = index + xp.expand_dims(_steps(xp, labels, positions), axis=0)
    own = k.take_class(xp, xp.reshape(z, (images * classes * positions,)), index)
    return xp.reshape(own, scores.labels.shape) < xp.max(z, axis=1)


def _steps(xp: Any, like: Array, count: int) -> Array:
    return xp.arange(count, dtype=like.dtype, device=device_of(like))


def _starts(xp: Any, rows: Array, length: int) -> Array:
    """Return the flat index at which each row of a length begins, as a column."""
    return xp.expand_dims(_steps(xp, rows, rows.shape[0]) * length, axis=1)


def _quotas(xp: Any, k: Any, counts: Array, max_samples: int, max_views: int) -> Array:
    """Return how many anchors there are of each kind, from the counts of easy and hard pixels `(N, C, 2)`."""
    easy, hard = counts[:, :, 0], counts[:, :, 1]
    zero, one = xp.zeros_like(easy), xp.ones_like(easy)
    present = easy + hard >= max_views
    pairs = xp.astype(k.count(xp, present), easy.dtype)
    views = xp.minimum(xp.maximum(max_samples // xp.maximum(pairs, one), one), xp.full_like(one, max_views))
    kept = xp.minimum(hard, xp.maximum(views // 2, views - easy))
    return xp.stack([xp.where(present, views - kept, zero), xp.where(present, kept, zero)], axis=2)


def _by_kind(scores: Inputs, kinds: Array, ranks: Array) -> Array:
    """Return the flat positions of each image by kind and, within it, by rank; those that do not count come last."""
    xp, k = scores.xp, scores.kernels
    images, positions = kinds.shape[0], math.prod(kinds.shape[1:])
    if scores.valid is not None:
        kinds = xp.where(scores.valid, kinds, xp.full_like(kinds, 2 * scores.classes))

    def sorted_rows(x: Array) -> Array:
        order = xp.argsort(xp.reshape(x, (images, positions)), axis=1)
        return order + _starts(xp, order, positions)

    drawn = sorted_rows(ranks)
    order = sorted_rows(k.take_class(xp, xp.reshape(kinds, (images * positions,)), drawn))
    return k.take_class(xp, xp.reshape(drawn, (images * positions,)), order)


def _unit(inputs: Inputs, vectors: Array) -> Array:
    """Return rows scaled to length 1, and 0 for short ones, which have no direction."""
    xp, k = inputs.xp, inputs.kernels
    squares = xp.sum(vectors * vectors, axis=1, keepdims=True)
    long = squares > _SHORT**2
    return k.where_or(xp, long, vectors / xp.sqrt(k.where_or(xp, long, squares, 1.0)), 0.0)


def _contrasts(inputs: Inputs, e: Array, classes: Array, temperature: float) -> tuple[Array, Array]:
    """Return the loss of each anchor, 0 in unused slots, and the mask of those that have another of their class."""
    xp, k = inputs.xp, inputs.kernels
    similar = k.matmul(xp, e, xp.matrix_transpose(e)) / temperature
    row, column = xp.expand_dims(classes, axis=1), xp.expand_dims(classes, axis=0)
    used = (row >= 0) & (column >= 0)
    index = _steps(xp, classes, e.shape[0])
    other = xp.expand_dims(index, axis=1) != xp.expand_dims(index, axis=0)
    positive = used & (row == column) & other
    negative = used & (row != column)
    # log(exp(s) + sum) - s is softplus(log sum - s): each sum is shifted by its own largest term.
    others = k.where_or(xp, negative, similar, -float(xp.finfo(similar.dtype).max))
    some = xp.any(negative, axis=1, keepdims=True)
    top = k.where_or(xp, some, xp.max(k.constant(others), axis=1, keepdims=True), 0.0)
    total = xp.sum(xp.exp(others - top), axis=1, keepdims=True)
    log_total = xp.log(k.where_or(xp, some, total, 1.0)) + top
    pairs = k.softplus(xp, k.where_or(xp, positive & some, log_total - similar, NEVER))
    partners = xp.sum(xp.astype(positive, e.dtype), axis=1)
    return reduce.ratio(inputs, xp.sum(pairs, axis=1), partners), partners > 0.0

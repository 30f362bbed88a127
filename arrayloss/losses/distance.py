"""Losses of the distance to the true boundary."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, TypeVar

from arrayloss._core import euclidean, reduce
from arrayloss._core.call import public
from arrayloss._core.classes import open_classes
from arrayloss._core.inputs import Inputs
from arrayloss._core.labels import open_labels, open_map
from arrayloss._core.library import library_of
from arrayloss._core.loss import Loss
from arrayloss._machines.formula import Array, Formula, Namespace, OfClasses
from arrayloss._machines.namespace import device_of

A = TypeVar("A")


@public
def distance_map(
    target: A,
    classes: int,
    *,
    ignore_index: int | None = 255,
    signed: bool = True,
    spacing: Any = None,
) -> A:
    r"""Return the Euclidean distance of every pixel to the boundary of the region of each class in its image.

    With :math:`d(q, R)` the distance of a pixel :math:`q` to the nearest pixel of a set, and :math:`R_c` the pixels of
    class :math:`c`, the map :math:`\varphi_c` is

    .. math:: \varphi_c(q) = \begin{cases} d(q, R_c) & q \notin R_c \\ s - d(q, \overline{R_c}) & q \in R_c \end{cases}

    with :math:`s = 1` pixel, the smallest ``spacing`` where that is given; with ``signed=False`` it is
    :math:`d(q, R_c)` outside and :math:`d(q, \overline{R_c})` inside.

    Parameters
    ----------
    target : array, shape (N, \*S)
        Label maps of any integer dtype or bool, with any number of spatial dimensions.
    classes : int, at least 1
        Number of classes C; labels are in [0, C).
    ignore_index : int or None
        Label of pixels that belong to no region, neither to its inside nor to its outside; None ignores nothing.
    signed : bool
        Whether the distance is negative inside of the region, as `boundary_loss` wants it, or positive on both sides,
        as `hausdorff_dt_loss` does.
    spacing : sequence of positive numbers, optional
        Distance of neighbouring pixels along each spatial dimension; 1 by default.

    Returns
    -------
    array, shape (N, C, \*S)
        float32, of the library and on the device of the target; 0 at ignored pixels.

    Raises
    ------
    ImportError
        SciPy is not installed; the extra ``arrayloss[distance]`` brings it.
    TypeError
        `target` is no array of integers or bool, or its values cannot be read because it is traced (jit, vmap,
        compile).
    ValueError
        A label outside [0, C) that is not ignored, a 0-d target, an option out of range, or ``ignore_index=255`` with
        more than 255 classes.

    Notes
    -----
    A step of preparing data: the labels are read and the distances computed on the host, so the place for it is the
    data loader. Under jit or compile it is refused.

    Of the two usual discretisations of a signed distance this is that of Kervadec et al.: the innermost pixels outside
    have distance 1, the outermost inside 0. The other one, :math:`d(q, R_c) - d(q, \overline{R_c})`, jumps from 1 to
    -1. Their published code subtracts :math:`s = 1` with a spacing, too, which makes the inside positive where pixels
    are nearer to each other than that.

    A class that is absent in an image has no boundary there, and its map is 0, as in their code; so has a class that
    fills the image, up to ignored pixels. Distances are measured across ignored pixels. Cost: two exact Euclidean
    distance transforms for each class that is in an image.

    References
    ----------
    Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019, section 2 (level set function of the
    boundary), and its published code for the discretisation; Maurer, Qi, Raghavan, A Linear Time Algorithm for
    Computing Exact Euclidean Distance Transforms of Binary Images in Arbitrary Dimensions, IEEE TPAMI 2003.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[0, 0, 1, 1, 1, 0]])
    >>> print(al.distance_map(target, 2)[0, 1])
    [ 2.  1.  0. -1.  0.  1.]
    >>> print(al.distance_map(target, 2, signed=False)[0, 1])
    [2. 1. 1. 2. 1. 1.]
    """
    function = "distance_map"
    library, _ = open_map(function, target)
    labels: Array = target
    dimensions = labels.ndim - 1
    if dimensions < 0:
        raise ValueError(f"{function}: target has shape (), expected (N, *S)")
    if spacing is not None and len(spacing) != dimensions:
        raise ValueError(
            f"{function}: spacing is {list(spacing)}, expected {dimensions} numbers, one per spatial dimension of a "
            f"target of shape {tuple(labels.shape)}"
        )
    read = euclidean.read(
        function, library, "target", labels, "compute the map before, for instance in the data loader"
    )
    host, valid, _ = open_labels(function, library_of(read), read, classes, ignore_index)
    regions = euclidean.regions(host, valid, range(classes))
    xp = library.xp
    like = xp.zeros((), dtype=xp.float32, device=device_of(labels))
    found: A = library.kernels.scalar_like(xp, like, euclidean.distances(regions, valid, signed, spacing))
    return found


@public
def boundary_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    activation: str | None = "softmax",
    include_background: bool = True,
    weight: Any = None,
    distance: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise predicted probability outside of the true region, by its distance to the boundary of that region.

    With the probabilities :math:`p` (``activation`` of the logits), the weight :math:`w_c` of each class and the
    signed distance :math:`\varphi_c` to the boundary of the true region of class :math:`c` (``distance``), positive
    outside and negative inside, the loss of a position is

    .. math:: \sum_c w_c\, \varphi_c\, p_c

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``; probabilities with
        ``activation=None``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1. With
        ``distance`` they only say which positions are ignored.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    activation : "softmax", "sigmoid" or None
        What makes probabilities of the logits: "sigmoid" of each class on its own, None if they are probabilities.
    include_background : bool
        Whether class 0 counts.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    distance : array in the shape of the logits, optional
        What `distance_map` returns for the target, the class axis where the logits have theirs, in any real dtype.
        Without it the map is computed in the call, on the host. Passed in the call.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions times the sum of the weights of the classes that count (their
        number, without ``weight``); "parts" returns (total, weight) with mean = total / weight; "none" has the shape of
        the positions, 0 where ignored.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or the shape of the positions for "none", of the library and on the device of the logits, in their dtype,
        at least float32. 0 where nothing is valid. The value can be negative.

    Raises
    ------
    ImportError
        ``distance`` is not given and SciPy is not installed; the extra ``arrayloss[distance]`` brings it.
    TypeError
        Arrays of two libraries, a dtype that does not fit, or no ``distance`` where the target cannot be read (jit,
        vmap, compile).
    ValueError
        Shapes or options that do not fit, ``include_background=False`` with one class, a label outside [0, C) that is
        not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit, vmap and compile a
        wrong label makes the loss NaN.

    Notes
    -----
    The gradient with respect to the probabilities is the distance itself, the same wherever the prediction is: the
    loss alone is at its least where everything is predicted as deep inside as there is, and the authors add it to a
    region loss such as `dice_loss`, with a weight that grows during training.

    "mean" is the mean over all entries of the classes that count, as in the authors' code. A class that is absent in
    an image, or fills it, has distance 0 and loss 0 there.

    With a class axis of length 1 (for "sigmoid" or None) the labels are 0 and 1, and the class is that of label 1:
    ``distance_map(target, 2)[:, 1:]`` is its distance.

    The distances are constants to differentiation. Computing them in the call takes the labels from the device and the
    distances to it, and two distance transforms for each class and image, which cost far more than the rest of the
    loss: better pass what the data loader has computed. Under jit, vmap and compile there is no other way.

    References
    ----------
    Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019, equation 5; Medical Image Analysis 67,
    2021.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[0, 0, 1, 1, 1, 0]])
    >>> distance = al.distance_map(target, 2)
    >>> logits = np.stack([1 - target, target], axis=1) * 20.0
    >>> print(round(float(al.boundary_loss(logits, target, distance=distance)), 4))
    -0.1667
    >>> print(round(float(al.boundary_loss(-logits, target, distance=distance)), 4))
    0.6667
    """
    inputs = _open(
        "boundary_loss", logits, target, axis, ignore_index, activation, include_background, {"distance": distance}
    )
    class_weight = inputs.counted_weight(weight, include_background)
    phi = _of_target(inputs, "distance", distance, activation, signed=True)
    if class_weight is not None or activation != "softmax":
        # The kernel leaves out what is ignored itself.
        phi = _weigh(inputs, _valid_only(inputs, phi), class_weight)
    if activation == "softmax":
        how = OfClasses(_MEAN)
        losses = inputs.kernels.classes(inputs.xp, inputs.logits, phi, None, inputs.valid, None, how)
    else:
        losses = inputs.xp.sum(inputs.activated(activation) * phi, axis=1)
    return reduce.positions(inputs, losses, _divisor(inputs, class_weight), reduction)


def _mean(xp: Namespace, _log_p: Array, p: Array, distance: Array) -> Array:
    return p * distance


#: Slopes are with respect to log p.
_MEAN = Formula(_mean, _mean)


class BoundaryLoss(Loss, function=boundary_loss):
    """The options of `boundary_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    activation: str | None = "softmax"
    include_background: bool = True
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1


@public
def hausdorff_dt_loss(
    logits: A,
    target: Any,
    *,
    ignore_index: int | None = 255,
    alpha: float = 2.0,
    activation: str | None = "softmax",
    include_background: bool = True,
    weight: Any = None,
    target_distance: Any = None,
    prediction_distance: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> A:
    r"""Penalise wrong probabilities by how far they are from the true and from the predicted boundary.

    With the probabilities :math:`p` (``activation`` of the logits), the one-hot target :math:`t`, the weight
    :math:`w_c` of each class, and the unsigned distances :math:`d^t_c` to the boundary of the true region
    (``target_distance``) and :math:`d^p_c` to that of the predicted one, where :math:`p_c > 1/2`
    (``prediction_distance``), the loss of a position is

    .. math:: \sum_c w_c\, (p_c - t_c)^2 \left( (d^p_c)^\alpha + (d^t_c)^\alpha \right)

    Parameters
    ----------
    logits : array, shape (N, C, \*S) or (C,)
        Unnormalised scores, of a real floating dtype, the classes on ``axis``; probabilities with
        ``activation=None``.
    target : array
        Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1.
    ignore_index : int or None
        Label of positions that count nowhere; None ignores nothing.
    alpha : float, above 0
        How much more a far error counts than a near one; the authors found 1 to 3 to serve.
    activation : "softmax", "sigmoid" or None
        What makes probabilities of the logits: "sigmoid" of each class on its own, None if they are probabilities.
    include_background : bool
        Whether class 0 counts.
    weight : sequence or array of C finite numbers, optional
        Weight of each class.
    target_distance : array in the shape of the logits, optional
        What ``distance_map(target, C, signed=False)`` returns, the class axis where the logits have theirs, in any
        real dtype. Without it the map is computed in the call, on the host. Passed in the call.
    prediction_distance : array in the shape of the logits, or the number 0, optional
        The same of the prediction; 0 for the one-sided form of the loss, without :math:`d^p`. Without it the map is
        computed in the call, on the host. Passed in the call.
    reduction : "mean", "sum", "none" or "parts"
        "mean" divides by the number of valid positions times the sum of the weights of the classes that count (their
        number, without ``weight``); "parts" returns (total, weight) with mean = total / weight; "none" has the shape of
        the positions, 0 where ignored.
    axis : int
        The class axis of the logits.

    Returns
    -------
    array
        0-d, or the shape of the positions for "none", of the library and on the device of the logits, in their dtype,
        at least float32. 0 where nothing is valid.

    Raises
    ------
    ImportError
        A distance is not given and SciPy is not installed; the extra ``arrayloss[distance]`` brings it.
    TypeError
        Arrays of two libraries, a dtype that does not fit, or no distance where the target or the logits cannot be
        read (jit, vmap, compile).
    ValueError
        Shapes or options that do not fit, ``include_background=False`` with one class, a label outside [0, C) that is
        not ignored, or ``ignore_index=255`` with more than 255 classes. On a GPU and under jit, vmap and compile a
        wrong label makes the loss NaN.

    Notes
    -----
    The distance is that to the nearest pixel on the other side of the boundary, at least 1, as in MONAI. A class that
    no pixel of an image has, or every one, has no boundary there and the distance 0: where that is so of target and
    prediction alike, the class has loss 0, however wrong the prediction is, and gradient 0.

    The distances are constants to differentiation, also that of the prediction, which follows the logits. Computing
    them in the call takes labels and probabilities from the device and the distances to it, and two distance transforms
    for each class and image: the target's are better passed from the data loader. Under jit, vmap and compile both have
    to be given, for instance with ``prediction_distance=0``.

    With a class axis of length 1 (for "sigmoid" or None) the labels are 0 and 1, and the class is that of label 1:
    ``distance_map(target, 2, signed=False)[:, 1:]`` is its distance.

    References
    ----------
    Karimi and Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with Convolutional Neural
    Networks, IEEE Transactions on Medical Imaging 39(2), 2020: the losses by distance transforms, two-sided and
    one-sided.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> target = np.array([[0, 0, 1, 1, 1, 0]])
    >>> distance = al.distance_map(target, 2, signed=False)
    >>> wrong = np.array([[0, 0, 1, 1, 1, 1]])
    >>> logits = np.stack([1 - wrong, wrong], axis=1) * 20.0
    >>> print(round(float(al.hausdorff_dt_loss(logits, target, target_distance=distance, prediction_distance=0)), 4))
    0.1667
    """
    one_sided = _is_zero(prediction_distance)
    given = {"target_distance": target_distance, "prediction_distance": None if one_sided else prediction_distance}
    inputs = _open("hausdorff_dt_loss", logits, target, axis, ignore_index, activation, include_background, given)
    xp = inputs.xp
    class_weight = inputs.counted_weight(weight, include_background)
    true = _of_target(inputs, "target_distance", target_distance, activation, signed=False)
    field = _valid_only(inputs, true) ** alpha
    if not one_sided:
        predicted = _of_prediction(inputs, activation, prediction_distance)
        field = field + _valid_only(inputs, predicted) ** alpha
    field = _weigh(inputs, field, class_weight)
    if activation == "softmax":
        how = OfClasses(_SQUARES)
        losses = inputs.kernels.classes(xp, inputs.logits, inputs.labels, field, inputs.valid, None, how)
    else:
        error = inputs.activated(activation) - xp.astype(_true(inputs), field.dtype)
        losses = xp.sum(error * error * field, axis=1)
    return reduce.positions(inputs, losses, _divisor(inputs, class_weight), reduction)


def _squares(xp: Namespace, _log_p: Array, p: Array, t: Array, field: Array) -> Array:
    error = p - t
    return error * error * field


def _squares_slopes(xp: Namespace, _log_p: Array, p: Array, t: Array, field: Array) -> Array:
    return 2.0 * ((p - t) * field) * p


_SQUARES = Formula(_squares, _squares_slopes)


class HausdorffDTLoss(Loss, function=hausdorff_dt_loss):
    """The options of `hausdorff_dt_loss`, bound."""

    ignore_index: int | None = 255
    _: KW_ONLY
    alpha: float = 2.0
    activation: str | None = "softmax"
    include_background: bool = True
    weight: Any = None
    reduction: str = "mean"
    axis: int = 1


# What both losses share ---------------------------------------------------------------------------------------------


def _open(
    function: str,
    logits: Array,
    target: Array,
    axis: int,
    ignore_index: int | None,
    activation: str | None,
    include_background: bool,
    distances: dict[str, Any],
) -> Inputs:
    """Return the inputs of a loss over classes, where a single class but under softmax is the 1 of labels 0 and 1."""
    binary = activation != "softmax"
    inputs = open_classes(function, logits, target, axis, ignore_index, extra=distances, binary=binary)
    if inputs.classes == 1 and not include_background:
        raise ValueError(
            f"{function}: include_background is False for logits of shape {tuple(logits.shape)}, expected two classes "
            f"or more"
        )
    return inputs


def _weigh(inputs: Inputs, field: Array, class_weight: Array | None) -> Array:
    """Return a field of the classes times their weights."""
    if class_weight is None:
        return field
    return field * inputs.xp.reshape(class_weight, (1, -1) + (1,) * (field.ndim - 2))


def _divisor(inputs: Inputs, class_weight: Array | None) -> Array | float:
    """Return the number of valid positions times the sum of the weights of the classes."""
    if class_weight is None:
        return reduce.weight_of(inputs, None, inputs.valid, inputs.labels.shape, inputs.classes)
    return reduce.weight_of(inputs, None, inputs.valid, inputs.labels.shape) * inputs.xp.sum(class_weight)


def _true(inputs: Inputs) -> Array:
    """Return the one-hot form of the labels, of a single class that is the 1 of labels 0 and 1."""
    if inputs.classes == 1:
        return inputs.xp.expand_dims(inputs.labels == 1, axis=1)
    return inputs.kernels.one_hot(inputs.xp, inputs.labels, inputs.classes)


# Distances ----------------------------------------------------------------------------------------------------------


def _is_zero(distance: Any) -> bool:
    """Return whether a distance is the number 0, which leaves it out."""
    if not isinstance(distance, (int, float)):
        return False
    if distance != 0:
        raise ValueError(
            f"hausdorff_dt_loss: prediction_distance is {distance}, expected 0 or an array in the shape of the logits"
        )
    return True


def _of_target(inputs: Inputs, argument: str, distance: Any, activation: str | None, *, signed: bool) -> Array:
    """Return the distances to the true boundaries, as given in the call or computed."""
    if distance is not None:
        return _given(inputs, argument, distance)
    remedy = f"pass {argument}=, for instance what distance_map returned in the data loader"
    labels, valid = _read_target(inputs, inputs.labels, remedy), _read_target(inputs, inputs.valid, remedy)
    return _computed(inputs, euclidean.regions(labels, valid, _classes(inputs, activation)), valid, signed=signed)


def _of_prediction(inputs: Inputs, activation: str | None, distance: Any) -> Array:
    """Return the distances to the predicted boundaries, as given in the call or computed."""
    argument = "prediction_distance"
    if distance is not None:
        return _given(inputs, argument, distance)
    remedy = f"pass {argument}=, which is 0 for the one-sided form"
    p = inputs.kernels.constant(inputs.activated(activation))
    regions = euclidean.read(inputs.function, inputs.library, "logits", p, remedy) > 0.5
    valid = _read_target(inputs, inputs.valid, remedy)
    return _computed(inputs, regions if valid is None else regions & valid[:, None], valid, signed=False)


def _given(inputs: Inputs, argument: str, distance: Array) -> Array:
    return inputs.kernels.constant(inputs.like_logits(argument, distance))


def _valid_only(inputs: Inputs, distance: Array) -> Array:
    """Return distances that are 0 where not valid, whatever was handed in there."""
    return inputs.kernels.where_valid(inputs.xp, inputs.valid, distance)


def _computed(inputs: Inputs, regions: Array, valid: Array | None, *, signed: bool) -> Array:
    return inputs.kernels.scalar_like(inputs.xp, inputs.logits, euclidean.distances(regions, valid, signed, None))


def _classes(inputs: Inputs, activation: str | None) -> range:
    """Return the labels of the classes on the class axis."""
    return range(1, 2) if inputs.classes == 1 and activation != "softmax" else range(inputs.classes)


def _read_target(inputs: Inputs, x: Array | None, remedy: str) -> Array | None:
    return None if x is None else euclidean.read(inputs.function, inputs.library, "target", x, remedy)

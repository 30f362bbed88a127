"""The door of losses over classes: the target holds labels, or a probability of each class."""

from __future__ import annotations

from typing import Any

from arrayloss._core import advice, errors
from arrayloss._core.inputs import Inputs
from arrayloss._core.labels import open_labels, read_entries, tell_mask
from arrayloss._core.logits import class_axis, class_axis_to_1, of_library, open_logits
from arrayloss._core.ranges import check_probabilities
from arrayloss._machines.namespace import FLOATS, LABELS, dtype_name

Array = Any


def open_classes(
    function: str,
    logits: Array,
    target: Array,
    axis: int,
    ignore_index: int | None,
    *,
    probabilities: bool = False,
    extra: dict[str, Any] | None = None,
    weights: dict[str, Any] | None = None,
    names: str = "logits",
    label_classes: int | None = None,
    binary: bool = False,
    ranks: tuple[int, ...] | None = None,
) -> Inputs:
    """Check the inputs of a loss over classes and return them clean.

    `probabilities` says whether the loss takes targets shaped like the logits; `extra` names further arrays of the
    call, which must be of the same library, `weights` those that may be NumPy's too; `names` is what the caller calls
    the logits; `label_classes` is the number of labels where that is not the number of scores; `binary` says that a
    single class is the 1 of labels 0 and 1; `ranks` are the ranks of logits a loss takes, None for all.
    """
    arrays = {names: logits, "target": target}
    if extra is not None:
        arrays.update((name, x) for name, x in extra.items() if x is not None)
    if weights is not None:
        arrays.update(of_library(weights))
    library, scores = open_logits(function, arrays, names)
    if ranks is not None and logits.ndim not in ranks:
        more = advice.of_shapes(function, logits, target, axis, names)
        raise errors.shape(function, names, logits, "images: (N, C, H, W)", more)
    axis = class_axis(function, logits, axis)
    scores = class_axis_to_1(library.xp, scores, axis)
    # Read once: torch makes a shape anew each time it is asked for one.
    images, classes, *space = scores.shape
    if classes == 0:
        raise errors.no_classes(function, logits, axis)
    form = target_form(function, logits, target, axis, probabilities, names=names)
    labels = soft = valid = bad = None
    if form == "probabilities":
        soft = class_axis_to_1(library.xp, library.xp.astype(target, scores.dtype, copy=False), axis)
        bad = check_probabilities(function, library, soft)
    else:
        shape = (images, *space)
        flat = target if target.shape == shape else library.xp.reshape(target, shape)
        if binary and classes == 1:
            label_classes = 2
        labels, valid, bad = open_labels(function, library, flat, label_classes or classes, ignore_index)
    return Inputs(function, library, scores, labels, soft, valid, bad, axis, logits.ndim > 1)


def open_binary(function: str, logits: Array, target: Array, axis: int, ignore_index: int | None) -> Inputs:
    """Check the inputs of a loss that asks of every class on its own, and return them clean.

    The target has an entry in [0, 1] for each logit, and `valid` is a mask of entries; or it holds labels of several
    classes, and `valid` is a mask of positions.
    """
    library, x = open_logits(function, {"logits": logits, "target": target})
    rank, whole, kind = logits.ndim, tuple(logits.shape), dtype_name(target)
    axis = class_axis(function, logits, axis)
    x = class_axis_to_1(library.xp, x, axis)
    positions = (*whole[:axis], *whole[axis + 1 :])
    if tuple(target.shape) != whole and not (x.shape[1] == 1 and tuple(target.shape) == positions):
        return open_classes(function, logits, target, axis, ignore_index, probabilities=True)
    if kind not in FLOATS | LABELS:
        raise errors.dtype(function, "target", target, "a real floating dtype, integers or bool")
    given = library.xp.astype(target, x.dtype, copy=False)
    _, valid, found = read_entries(library, target, ignore_index)
    y = library.kernels.where_or(library.xp, valid, given, 0.0)
    inside = found if valid is None else library.kernels.host_range(library.kernels.constant(y))
    bad = check_probabilities(function, library, y, found=inside)
    tell_mask(function, "target", ignore_index, found, inside)
    y, valid = (
        None if a is None else class_axis_to_1(library.xp, library.xp.reshape(a, whole), axis) for a in (y, valid)
    )
    return Inputs(function, library, x, None, y, valid, bad, axis, rank > 1)


def open_probabilities(
    function: str, logits: Array, target: Array, axis: int, ignore_index: int | None, activation: str | None
) -> Inputs:
    """Check the inputs of a loss of probabilities, which `Inputs.activated` makes of the logits, and return them clean.

    Under softmax they are those of a loss over classes, else those of `open_binary`.
    """
    if activation == "softmax":
        return open_classes(function, logits, target, axis, ignore_index, probabilities=True)
    inputs = open_binary(function, logits, target, axis, ignore_index)
    if activation is not None:
        return inputs
    valid = inputs.valid_entries
    bad = check_probabilities(function, inputs.library, inputs.logits, valid, names="logits with activation=None")
    return inputs.poisoned(bad)


def target_form(
    function: str,
    logits: Array,
    target: Array,
    axis: int,
    probabilities: bool,
    name: str = "target",
    names: str = "logits",
) -> str:
    """Return whether the target holds "labels" or "probabilities"; `name` and `names` are for the error of neither."""
    shape, kind = tuple(target.shape), dtype_name(target)
    whole = tuple(logits.shape)
    positions = whole[:axis] + whole[axis + 1 :]
    if kind in LABELS and shape == positions:
        return "labels"
    with_class_axis = (*whole[:axis], 1, *whole[axis + 1 :])
    if kind in LABELS and shape == with_class_axis:
        return "labels"
    if kind in FLOATS | LABELS and shape == whole and probabilities:
        return "probabilities"
    label_shapes = f"{positions} or {with_class_axis}"
    if shape in (positions, with_class_axis):
        more = f", or probabilities in the shape of the logits {whole}" if probabilities else ""
        raise errors.dtype(function, name, target, f"integer class labels in shape {label_shapes}", more)
    if shape == whole:
        raise TypeError(
            f"{function}: {name} of shape {shape}, like the logits, has dtype {kind}; "
            + ("expected probabilities of a real dtype, or " if probabilities else "expected ")
            + f"integer class labels of shape {label_shapes}"
            + ("" if probabilities else "; of a one-hot form, pass its argmax over the class axis")
        )
    expected = f"{label_shapes} for logits of shape {whole}"
    if probabilities:
        expected += f", or {whole} for probabilities or a one-hot form"
    raise errors.shape(function, name, target, expected, advice.of_shapes(function, logits, target, axis, names, name))

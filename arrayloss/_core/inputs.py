"""The door: every argument is looked at once, and what the formulas get is clean.

Errors leave here, before any work. Behind it logits have the class axis at 1 and are float32 or wider, labels are
valid indices, and what was ignored is a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from arrayloss._core import advice
from arrayloss._core.labels import open_labels, poison, read_entries, tell_mask
from arrayloss._core.library import common_library
from arrayloss._machines.namespace import FLOATS, HALVES, LABELS, Library, dtype_name, library_name

Array = Any


@dataclass(frozen=True)
class Inputs:
    """Clean inputs of one call. Shapes: logits `(N, C, *S)`, positions `(N, *S)`."""

    function: str
    library: Library
    logits: Array
    #: Class index at every position, 0 where ignored; None where the target holds probabilities.
    labels: Array
    #: Target of the shape and dtype of the logits, 0 where ignored; None where the target holds labels. Of the losses
    #: that compare two scores, the teacher's, which are a constant, and not 0 where ignored.
    target: Array
    #: True where a position (with `elementwise` targets: an entry) is not ignored; None: nothing is.
    valid: Array | None
    #: 0-d, NaN if a label or probability was out of range and else 1; None where that was read and found in order.
    poison: Array | None
    #: The class axis of the caller's logits; 1 where they have none to move.
    axis: int
    #: False for a single `(C,)` without a batch axis.
    batched: bool

    @property
    def xp(self) -> Any:
        return self.library.xp

    @property
    def kernels(self) -> Any:
        return self.library.kernels

    @property
    def classes(self) -> int:
        return int(self.logits.shape[1])

    def per_class(self, option: str, weight: Any) -> Array | None:
        """Return class weights as an array `(C,)` like the logits, or None."""
        if weight is None:
            return None
        return self.plain_array(option, weight, [(self.classes,)], "one weight per class")

    def counted(self, include_background: bool) -> Array | None:
        """Return 1 for each class and 0 for a background that does not count, or None where all count."""
        if include_background:
            return None
        return self.kernels.scalar_like(self.xp, self.logits, (0.0, *(1.0,) * (self.classes - 1)))

    def counted_weight(self, weight: Any, include_background: bool) -> Array | None:
        """Return the weights of the classes, 0 for a background that does not count; None where all weigh 1."""
        given, counted = self.per_class("weight", weight), self.counted(include_background)
        return given if counted is None else counted if given is None else given * counted

    def plain_array(self, option: str, value: Any, shapes: list[tuple[int, ...]], meaning: str) -> Array:
        """Return an option given as numbers or as an array, in the dtype and on the device of the logits."""
        shape = shape_of(value)
        # Entry by entry: torch.compile takes tuples with sizes that may vary for different ones.
        if not any(len(shape) == len(fit) and all(a == b for a, b in zip(shape, fit, strict=True)) for fit in shapes):
            fits = " or ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(
                f"{self.function}: {option} has shape {shape}, expected {fits} ({meaning}) for logits of "
                f"{self.classes} classes"
            )
        if not isinstance(value, (int, float, tuple)):
            return self._weights(option, value)
        return self.kernels.scalar_like(self.xp, self.logits, value)

    def _weights(self, argument: str, values: Any) -> Array:
        """Return weights as an array of the library, in the dtype of the logits; NumPy's serve every library."""
        if self.library.name != "numpy" and library_name(values) == "numpy":
            # In a dtype, an order and a byte order that every library takes.
            values = self.kernels.scalar_like(self.xp, self.logits, values.astype("float64").copy())
        common_library(self.function, {"logits": self.logits, argument: values})
        if dtype_name(values) not in FLOATS | LABELS:
            raise TypeError(f"{self.function}: {argument} has dtype {dtype_name(values)}, expected a real dtype")
        return self.xp.astype(values, self.logits.dtype)

    def one_per_position(self, argument: str, values: Array) -> Array:
        """Return an array of the call that has one value per position in the shape of the positions."""
        shape = (self.logits.shape[0], *self.logits.shape[2:])
        # As for labels, a class axis of length 1 may stand where the logits have theirs.
        caller = shape if self.batched else shape[1:]
        fits = [caller, (*caller[: self.axis], 1, *caller[self.axis :])]
        if tuple(values.shape) not in fits:
            raise ValueError(
                f"{self.function}: {argument} has shape {tuple(values.shape)}, expected {fits[0]} or {fits[1]}, one "
                f"value per position"
            )
        if dtype_name(values) not in FLOATS | LABELS:
            raise TypeError(f"{self.function}: {argument} has dtype {dtype_name(values)}, expected a real dtype")
        return self.xp.reshape(self.xp.astype(values, self.logits.dtype), shape)

    def drawn(self, like: Array, noise: Any, rng: Any) -> Array | None:
        """Return noise in the shape of an array: drawn, or 0 where it is the number 0; None where an array is given."""
        xp, k = self.xp, self.kernels
        if noise is not None and rng is not None:
            raise ValueError(f"{self.function}: noise and rng are both given, expected one of them")
        like = xp.astype(k.constant(like), self.logits.dtype)
        if noise is None:
            try:
                return k.gumbel(xp, like, rng)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.function}: {error}") from None
        if isinstance(noise, (int, float)):
            if noise != 0:
                raise ValueError(f"{self.function}: noise is {noise}, expected 0 or an array")
            return xp.zeros_like(like)
        common_library(self.function, {"logits": self.logits, "noise": noise})
        return None

    def per_position(self, argument: str, values: Any) -> Array:
        """Return weights of positions, given as an array or as sequences, 0 where ignored."""
        if isinstance(values, (list, tuple)):
            import numpy as np

            try:
                values = np.asarray(values)
            except ValueError as error:
                raise ValueError(f"{self.function}: {argument} is no array: {error}") from None
        weights = self.one_per_position(argument, self._weights(argument, values))
        return self.kernels.where_or(self.xp, self.valid, weights, 0.0)

    def like_logits(self, argument: str, values: Array) -> Array:
        """Return an array of the call that has one value per logit in the layout and the dtype of the logits."""
        whole = [self.logits.shape[0], *self.logits.shape[2:]] if self.batched else []
        whole.insert(self.axis, self.classes)
        if tuple(values.shape) != tuple(whole):
            raise ValueError(
                f"{self.function}: {argument} has shape {tuple(values.shape)}, expected {tuple(whole)}, that of the "
                f"logits"
            )
        if dtype_name(values) not in FLOATS | LABELS:
            raise TypeError(f"{self.function}: {argument} has dtype {dtype_name(values)}, expected a real dtype")
        return class_axis_to_1(self.xp, self.xp.astype(values, self.logits.dtype), self.axis)

    def one_per_entry(self, argument: str, values: Array) -> Array:
        """Return an array of the call that has one value per entry, of a real floating dtype."""
        _same_shape(self.function, argument, values, tuple(self.logits.shape))
        if dtype_name(values) not in FLOATS:
            raise TypeError(
                f"{self.function}: {argument} has dtype {dtype_name(values)}, expected a real floating dtype "
                f"({', '.join(sorted(FLOATS))})"
            )
        return self.xp.astype(values, self.logits.dtype)

    def not_negative(self, argument: str, values: Array, found: tuple[float, float] | None = None) -> Inputs:
        """Refuse values below 0 that count where they can be read, else return the inputs poisoned by any.

        `found` is the range of values that are not negative where ignored, where that was read already.
        """
        expected = "numbers of at least 0"
        valid = self.valid if found is None else None
        return self.poisoned(_check_range(self.function, self.library, argument, values, None, expected, valid, found))

    def poisoned(self, bad: Array | None) -> Inputs:
        """Return the inputs with one more poison, or as they are without."""
        if bad is None:
            return self
        return replace(self, poison=bad if self.poison is None else self.poison * bad)

    def only(self, mask: Array) -> Inputs:
        """Return the inputs with only the positions of `mask` valid, of those that are."""
        return replace(self, valid=mask if self.valid is None else self.valid & mask)

    @property
    def least(self) -> float:
        """A number far below what counts, of which the square is a normal number of the dtype of the logits."""
        return float(self.xp.finfo(self.logits.dtype).smallest_normal) ** 0.5

    @property
    def largest(self) -> float:
        """The largest finite number of the dtype of the logits."""
        return float(self.xp.finfo(self.logits.dtype).max)

    @property
    def valid_entries(self) -> Array | None:
        """The mask of entries that are not ignored, of the shape of the logits; None: nothing is."""
        if self.valid is None or self.valid.ndim == self.logits.ndim:
            return self.valid
        return self.xp.broadcast_to(self.xp.expand_dims(self.valid, axis=1), self.logits.shape)

    @property
    def seen(self) -> Array | None:
        """True where an image `(N, 1)` or, of entries, a region `(N, C)` holds something valid; None: all do."""
        if self.valid is None:
            return None
        images, kinds = self.logits.shape[0], self.classes if self.valid.ndim == self.logits.ndim else 1
        positions = math.prod(self.logits.shape[2:])
        return self.xp.any(self.xp.reshape(self.valid, (images, kinds, positions)), axis=2)

    def as_entries(self) -> Inputs:
        """Return the inputs with labels in their one-hot form, and the mask that of entries."""
        if self.labels is None:
            return self
        y = self.xp.astype(self.kernels.one_hot(self.xp, self.labels, self.classes), self.logits.dtype)
        return replace(self, labels=None, target=y, valid=self.valid_entries)

    def activated(self, activation: str | None) -> Array:
        """Return the probabilities that an activation makes of the logits, 0 where ignored; None takes them as such."""
        xp, k = self.xp, self.kernels
        if activation == "softmax":
            return k.softmax(xp, self.logits, self.valid)
        valid = self.valid_entries
        x = k.where_or(xp, valid, self.logits, 0.0)
        return x if activation is None else k.where_or(xp, valid, k.sigmoid(xp, x), 0.0)

    def weigh(self, losses: Array, class_weight: Array | None) -> tuple[Array, Array | None]:
        """Return losses of labels times the weights of their classes, and those weights, or None without any."""
        if class_weight is None:
            return losses, None
        weights = self.kernels.take_class(self.xp, class_weight, self.labels)
        return self.scale(losses, weights), weights

    def absolute(self, x: Array) -> Array:
        """Return |x| with gradient 0 at 0, where that of the libraries' own `abs` differs between them."""
        return x * self.xp.sign(x)

    def scale(self, losses: Array, weights: Array) -> Array:
        """Return losses times weights, where a weight of 0 takes out even an infinite loss."""
        return self.kernels.where_or(self.xp, weights != 0.0, losses, 0.0) * weights


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an option given as an array or as nested tuples of numbers; ragged ones contain -1."""
    if isinstance(value, (int, float)):
        return ()
    if not isinstance(value, tuple):
        return tuple(value.shape)
    inner = {shape_of(item) for item in value}
    return (len(value), *inner.pop()) if len(inner) == 1 else (len(value), -1)


def _of_library(weights: dict[str, Any] | None) -> dict[str, Any]:
    """Return those weights of a call that must be of the library of the logits: not sequences, nor NumPy's arrays."""
    return {
        name: x
        for name, x in (weights or {}).items()
        if x is not None and not isinstance(x, (list, tuple)) and library_name(x) != "numpy"
    }


def where_or(library: Library, mask: Array | None, x: Array, value: float) -> Array:
    """Return `x` where `mask`, else the number `value`."""
    return library.kernels.where_or(library.xp, mask, x, value)


def open_logits(function: str, arrays: dict[str, Any], names: str = "logits") -> tuple[Library, Array]:
    """Return the library of all arrays, and the first one checked to be real floating and raised to float32."""
    library = common_library(function, arrays)
    logits = next(iter(arrays.values()))
    name = dtype_name(logits)
    if name not in FLOATS:
        raise TypeError(
            f"{function}: {names} has dtype {name}, expected a real floating dtype ({', '.join(sorted(FLOATS))}); "
            f"{names} are scores, not labels" + _swapped(function, arrays)
        )
    _same_device(function, library, arrays)
    if name in HALVES or (library.name == "numpy" and not logits.dtype.isnative):
        logits = library.xp.astype(logits, library.xp.float64 if name == "float64" else library.xp.float32)
    return library, logits


def _swapped(function: str, arrays: dict[str, Any]) -> str:
    """Return what to write where the scores are no real numbers and the target holds such, or ""."""
    if "target" not in arrays or dtype_name(arrays["target"]) not in FLOATS:
        return ""
    return advice.of_swapped(function)


def _same_device(function: str, library: Library, arrays: dict[str, Any]) -> None:
    # A traced JAX array has no device, and JAX itself refuses two; the scalars of older NumPys have none either.
    if library.name in ("jax", "numpy"):
        return
    given = [(argument, x.device) for argument, x in arrays.items()]
    for argument, device in given[1:]:
        if device != given[0][1]:
            raise ValueError(
                f"{function}: {given[0][0]} is on device {given[0][1]} but {argument} is on {device}; move one of them"
            )


def pair(function: str, logits: Any, meaning: str) -> tuple[Array, Array]:
    """Return the two arrays of logits that are a tuple; `meaning` names them in the error."""
    if not isinstance(logits, (tuple, list)) or len(logits) != 2:
        came = f"a {type(logits).__name__}" + (f" of {len(logits)}" if isinstance(logits, (tuple, list)) else "")
        swapped = "" if isinstance(logits, (tuple, list)) else f"; they come first: {function}(logits, target)"
        raise TypeError(f"{function}: logits is {came}, expected a tuple of two arrays: ({meaning})" + swapped)
    return logits[0], logits[1]


def class_axis(function: str, logits: Array, axis: int) -> int:
    """Return the class axis of the logits as a non-negative number."""
    rank = logits.ndim
    if rank == 0:
        raise ValueError(f"{function}: logits has shape (), expected (N, C, *S) or (C,)")
    if rank == 1 and axis == 1:  # the default, for a single (C,) without a batch axis
        return 0
    if not -rank <= axis < rank:
        raise ValueError(
            f"{function}: axis is {axis}, expected -{rank} to {rank - 1} for logits of shape {logits.shape}"
        )
    return axis % int(rank)


def class_axis_to_1(xp: Any, x: Array, axis: int) -> Array:
    """Return `x` with the class axis at 1; a single `(C,)` becomes `(1, C)`."""
    if x.ndim == 1:
        return xp.expand_dims(x, axis=0)
    if axis == 1:
        return x
    rest = [i for i in range(x.ndim) if i != axis]
    return xp.permute_dims(x, (rest[0], axis, *rest[1:]))


def class_axis_back(xp: Any, x: Array, axis: int) -> Array:
    """Undo `class_axis_to_1` for an array of more than one dimension."""
    if axis == 1:
        return x
    order = [0, *range(2, x.ndim)]
    order.insert(axis, 1)
    return xp.permute_dims(x, tuple(order))


def open_classes(
    function: str,
    logits: Array,
    target: Array,
    *,
    axis: int,
    ignore_index: int | None,
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
    given = {name: x for name, x in (extra or {}).items() if x is not None}
    library, scores = open_logits(function, {names: logits, "target": target, **given, **_of_library(weights)}, names)
    if ranks is not None and logits.ndim not in ranks:
        raise ValueError(
            f"{function}: {names} has shape {tuple(logits.shape)}, expected images: (N, C, H, W)"
            + advice.of_shapes(function, logits, target, axis, names)
        )
    axis = class_axis(function, logits, axis)
    scores = class_axis_to_1(library.xp, scores, axis)
    if scores.shape[1] == 0:
        raise ValueError(f"{function}: logits has shape {tuple(logits.shape)}: no classes on axis {axis}")
    form = target_form(function, logits, target, axis, probabilities, names=names)
    labels = soft = valid = bad = None
    if form == "probabilities":
        soft = class_axis_to_1(library.xp, library.xp.astype(target, scores.dtype, copy=False), axis)
        bad = check_probabilities(function, library, soft)
    else:
        shape = (scores.shape[0], *scores.shape[2:])
        flat = target if target.shape == shape else library.xp.reshape(target, shape)
        if binary and scores.shape[1] == 1:
            label_classes = 2
        labels, valid, bad = open_labels(function, library, flat, label_classes or scores.shape[1], ignore_index)
    return Inputs(function, library, scores, labels, soft, valid, bad, axis, logits.ndim > 1)


def open_teacher(
    function: str,
    logits: Array,
    target: Array,
    labels: Array | None,
    *,
    axis: int,
    ignore_index: int | None,
    weights: dict[str, Any] | None = None,
) -> Inputs:
    """Check the inputs of a loss that compares the logits with those of a teacher, and return them clean.

    Labels are an argument of the call that may be left out; nothing is ignored then.
    """
    given = {} if labels is None else {"labels": labels}
    library, scores = open_logits(function, {"logits": logits, "target": target, **given, **_of_library(weights)})
    xp, whole = library.xp, tuple(logits.shape)
    axis = class_axis(function, logits, axis)
    if whole[axis] == 0:
        raise ValueError(f"{function}: logits has shape {whole}: no classes on axis {axis}")
    if tuple(target.shape) != whole:
        raise ValueError(
            f"{function}: target has shape {tuple(target.shape)}, expected the logits of the teacher in the shape of "
            f"the logits, {whole}; class labels to ignore by go into labels="
        )
    if dtype_name(target) not in FLOATS:
        raise TypeError(
            f"{function}: target has dtype {dtype_name(target)}, expected a real floating dtype: the logits of the "
            f"teacher; class labels go into labels="
        )
    scores, teacher = (class_axis_to_1(xp, x, axis) for x in (scores, xp.astype(target, scores.dtype, copy=False)))
    found = valid = bad = None
    if labels is not None:
        target_form(function, logits, labels, axis, False, "labels")
        flat = xp.reshape(labels, (scores.shape[0], *scores.shape[2:]))
        found, valid, bad = open_labels(function, library, flat, scores.shape[1], ignore_index, "labels")
    teacher = library.kernels.constant(teacher)
    return Inputs(function, library, scores, found, teacher, valid, bad, axis, logits.ndim > 1)


def open_binary(function: str, logits: Array, target: Array, *, axis: int, ignore_index: int | None) -> Inputs:
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
        return open_classes(function, logits, target, axis=axis, ignore_index=ignore_index, probabilities=True)
    if kind not in FLOATS | LABELS:
        raise TypeError(f"{function}: target has dtype {kind}, expected a real floating dtype, integers or bool")
    given = library.xp.astype(target, x.dtype, copy=False)
    _, valid, found = read_entries(library, target, ignore_index)
    y = where_or(library, valid, given, 0.0)
    inside = found if valid is None else library.kernels.host_range(library.kernels.constant(y))
    poison = check_probabilities(function, library, y, found=inside)
    tell_mask(function, "target", ignore_index, found, inside)
    y, valid = (
        None if a is None else class_axis_to_1(library.xp, library.xp.reshape(a, whole), axis) for a in (y, valid)
    )
    return Inputs(function, library, x, None, y, valid, poison, axis, rank > 1)


def open_probabilities(
    function: str, logits: Array, target: Array, *, activation: str | None, axis: int, ignore_index: int | None
) -> Inputs:
    """Check the inputs of a loss of probabilities, which `Inputs.activated` makes of the logits, and return them clean.

    Under softmax they are those of a loss over classes, else those of `open_binary`.
    """
    if activation == "softmax":
        return open_classes(function, logits, target, axis=axis, ignore_index=ignore_index, probabilities=True)
    inputs = open_binary(function, logits, target, axis=axis, ignore_index=ignore_index)
    if activation is not None:
        return inputs
    valid = inputs.valid_entries
    bad = check_probabilities(function, inputs.library, inputs.logits, valid, names="logits with activation=None")
    return inputs.poisoned(bad)


def open_entries(
    function: str,
    prediction: Array,
    target: Array,
    ignore_index: int | None,
    *,
    counts: bool = False,
    extra: dict[str, Any] | None = None,
    names: str = "logits",
) -> Inputs:
    """Check the inputs of a loss that compares entry by entry, without classes, and return them clean.

    `counts` says whether the target may not be negative, and is to be 0 where ignored; `extra` names further arrays of
    the call, which must be of the same library; `names` is what the caller calls the prediction.
    """
    library, x = open_logits(function, {names: prediction, "target": target, **(extra or {})}, names)
    kind = dtype_name(target)
    _same_shape(function, "target", target, tuple(prediction.shape))
    if kind not in FLOATS | LABELS:
        raise TypeError(f"{function}: target has dtype {kind}, expected a real floating or integer dtype")
    _, valid, found = read_entries(library, target, ignore_index)
    given, bad = library.xp.astype(target, x.dtype, copy=False), None
    if counts:
        expected = "counts of at least 0"
        found = found if kind in FLOATS and valid is None else None
        bad = _check_range(function, library, "target", given, None, expected, valid, found)
        given = where_or(library, valid, given, 0.0)
    return Inputs(function, library, x, None, given, valid, bad, 1, True)


def _same_shape(function: str, argument: str, values: Array, shape: tuple[int, ...]) -> None:
    if tuple(values.shape) != shape:
        raise ValueError(
            f"{function}: {argument} has shape {tuple(values.shape)}, expected {shape}, the shape of the prediction; "
            f"shapes are not broadcast" + advice.of_length_1(argument, tuple(values.shape), shape)
        )


def open_map(function: str, target: Array) -> tuple[Library, str]:
    """Return the library and the dtype of label maps."""
    library, kind = common_library(function, {"target": target}), dtype_name(target)
    if kind not in LABELS:
        raise TypeError(f"{function}: target has dtype {kind}, expected integer labels or bool")
    return library, kind


def mapped(function: str, target: Array, make: Callable[[Library, Array], tuple[Array, Array | None]]) -> Array:
    """Return what is made of label maps `(N, H, W)`: 0 and 1 where it is valid, in their dtype, and else the label."""
    library, kind = open_map(function, target)
    if target.ndim != 3:
        raise ValueError(f"{function}: target has shape {tuple(target.shape)}, expected (N, H, W)")
    xp = library.xp
    made, valid = make(library, target)
    made = xp.astype(made, xp.uint8 if kind == "bool" else target.dtype)
    return made if valid is None else xp.where(valid, made, target)


def target_form(
    function: str,
    logits: Array,
    target: Array,
    axis: int,
    probabilities: bool,
    name: str = "target",
    names: str = "logits",
) -> str:
    shape, kind = tuple(target.shape), dtype_name(target)
    whole = tuple(logits.shape)
    positions = (*whole[:axis], *whole[axis + 1 :])
    with_class_axis = (*whole[:axis], 1, *whole[axis + 1 :])
    if kind in LABELS and shape in (positions, with_class_axis):
        return "labels"
    if kind in FLOATS | LABELS and shape == whole and probabilities:
        return "probabilities"
    label_shapes = f"{positions} or {with_class_axis}"
    expected = f"expected {label_shapes} for logits of shape {whole}"
    if shape in (positions, with_class_axis):
        raise TypeError(
            f"{function}: {name} has dtype {kind}, expected integer class labels in shape {label_shapes}"
            + (f", or probabilities in the shape of the logits {whole}" if probabilities else "")
        )
    if shape == whole:
        raise TypeError(
            f"{function}: {name} of shape {shape}, like the logits, has dtype {kind}; "
            + ("expected probabilities of a real dtype, or " if probabilities else "expected ")
            + f"integer class labels of shape {label_shapes}"
            + ("" if probabilities else "; of a one-hot form, pass its argmax over the class axis")
        )
    raise ValueError(
        f"{function}: {name} has shape {shape}, {expected}"
        + (f", or {whole} for probabilities or a one-hot form" if probabilities else "")
        + advice.of_shapes(function, logits, target, axis, names, name)
    )


def check_probabilities(
    function: str,
    library: Library,
    target: Array,
    valid: Array | None = None,
    found: tuple[float, float] | None = None,
    names: str = "target",
) -> Array | None:
    """Refuse a target outside [0, 1] where that can be read, else return the poison (see `Inputs`).

    `found` is the range of the target, where that was read already; `names` is what the caller calls it.
    """
    expected = "probabilities in [0, 1]"
    return _check_range(function, library, names, target, 1.001, expected, valid, found)


def _check_range(
    function: str,
    library: Library,
    argument: str,
    x: Array,
    upper: float | None,
    expected: str,
    valid: Array | None,
    found: tuple[float, float] | None,
) -> Array | None:
    """Refuse valid values outside [0, upper] where they can be read, else return the poison (see `Inputs`).

    Without an upper bound NaN passes, and makes the loss NaN by itself. `found` is the range of all values, where that
    was read already.
    """

    def wrong(low: Any, high: Any) -> Any:
        return low < 0.0 if upper is None else (low < 0.0) | (high > upper) | (low != low)

    if found is None or valid is not None:
        x = library.kernels.constant(where_or(library, valid, x, 0.0))
        found = library.kernels.host_range(x)
    if found is not None:
        if wrong(*found):
            raise ValueError(
                f"{function}: {argument} holds values from {found[0]:g} to {found[1]:g}, expected {expected}"
                + ("; for -1 and 1 pass (target + 1) / 2" if upper is not None and found == (-1, 1) else "")
            )
        return None
    if math.prod(x.shape) == 0:
        return None
    # The least and the largest, since a reduction of a mask would take longer.
    high = None if upper is None else library.xp.max(x)
    return poison(library, wrong(library.xp.min(x), high))

"""What passed the door: the clean inputs of one call, on which the formulas run.

Each kind of target has a door of its own: `classes.py`, `entries.py`, `teachers.py`, and `maps.py` for label maps of
another size than the scores. Errors leave there, before any work. Behind it logits have the class axis at 1 and are
float32 or wider, labels are valid indices, and what was ignored is a mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from arrayloss._core import advice, errors
from arrayloss._core.library import common_library
from arrayloss._core.logits import class_axis_to_1
from arrayloss._core.ranges import check_range
from arrayloss._machines.namespace import FLOATS, LABELS, Library, dtype_name, library_name

Array = Any


@dataclass(eq=False, slots=True)  # not frozen, which would triple what making one costs; nothing writes to it
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
            expected = f"{fits} ({meaning}) for logits of {self.classes} classes"
            raise errors.shape(self.function, option, shape, expected)
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
            raise errors.dtype(self.function, argument, values, "a real dtype")
        return self.xp.astype(values, self.logits.dtype)

    def one_per_position(self, argument: str, values: Array) -> Array:
        """Return an array of the call that has one value per position in the shape of the positions."""
        shape = (self.logits.shape[0], *self.logits.shape[2:])
        # As for labels, a class axis of length 1 may stand where the logits have theirs.
        caller = shape if self.batched else shape[1:]
        fits = [caller, (*caller[: self.axis], 1, *caller[self.axis :])]
        if tuple(values.shape) not in fits:
            raise errors.shape(self.function, argument, values, f"{fits[0]} or {fits[1]}, one value per position")
        if dtype_name(values) not in FLOATS | LABELS:
            raise errors.dtype(self.function, argument, values, "a real dtype")
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
            raise errors.shape(self.function, argument, values, f"{tuple(whole)}, that of the logits")
        if dtype_name(values) not in FLOATS | LABELS:
            raise errors.dtype(self.function, argument, values, "a real dtype")
        return class_axis_to_1(self.xp, self.xp.astype(values, self.logits.dtype), self.axis)

    def one_per_entry(self, argument: str, values: Array) -> Array:
        """Return an array of the call that has one value per entry, of a real floating dtype."""
        same_shape(self.function, argument, values, tuple(self.logits.shape))
        if dtype_name(values) not in FLOATS:
            raise errors.dtype(self.function, argument, values, errors.A_FLOAT)
        return self.xp.astype(values, self.logits.dtype)

    def not_negative(self, argument: str, values: Array, found: tuple[float, float] | None = None) -> Inputs:
        """Refuse values below 0 that count where they can be read, else return the inputs poisoned by any.

        `found` is the range of values that are not negative where ignored, where that was read already.
        """
        expected = "numbers of at least 0"
        valid = self.valid if found is None else None
        return self.poisoned(check_range(self.function, self.library, argument, values, None, expected, valid, found))

    def poisoned(self, bad: Array | None) -> Inputs:
        """Return the inputs with one more poison, or as they are without."""
        if bad is None:
            return self
        return replace(self, poison=bad if self.poison is None else self.poison * bad)

    def only(self, mask: Array) -> Inputs:
        """Return the inputs with only the positions of `mask` valid, of those that are."""
        return replace(self, valid=mask if self.valid is None else self.valid & mask)

    @property
    def aim(self) -> Array:
        """What the scores are held against: labels, or a target that has an entry for each score."""
        return self.target if self.labels is None else self.labels

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
        return self.xp.maximum(x, -x)

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


def same_shape(function: str, argument: str, values: Array, shape: tuple[int, ...]) -> None:
    """Refuse an array that has not the shape of the prediction."""
    if tuple(values.shape) != shape:
        expected = f"{shape}, the shape of the prediction; shapes are not broadcast"
        more = advice.of_length_1(argument, tuple(values.shape), shape)
        raise errors.shape(function, argument, values, expected, more)

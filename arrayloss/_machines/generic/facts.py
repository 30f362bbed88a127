"""What a library tells of its arrays, and what is small: constants, masks, one-hot forms, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.namespace import device_of


def constant(x: Array) -> Array:
    """Return `x` as a constant to differentiation."""
    return x


def host_range(x: Array) -> tuple[float, float] | None:
    """Return the least and the largest value where reading them costs no synchronisation and no trace, else None."""
    return None


def on_host(x: Array) -> Any:
    """Return the values of `x` as a NumPy array, waiting for them where need be.

    Where there are none to read, as in tracing, a TypeError says why.
    """
    import numpy as np

    try:
        return np.asarray(x)
    except (BufferError, RuntimeError, ValueError) as error:
        # The array may be where NumPy does not look; one of the devices of its library is the host.
        if (found := _moved_to_host(x)) is not None:
            return found
        raise TypeError(f"its library has no values for the host ({error})") from error


def _moved_to_host(x: Array) -> Any:
    """Return the values of an array as NumPy has them on another device of its library; None where it has none."""
    import numpy as np

    try:
        devices = x.__array_namespace__().__array_namespace_info__().devices()
    except (AttributeError, TypeError):
        return None
    for device in devices:
        try:
            return np.asarray(x.to_device(device))
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
            continue
    return None


def label_dtype(xp: Namespace, dtype: str) -> Any:
    """Return a signed dtype that serves as an index and holds every label of the named dtype."""
    return xp.int64 if dtype in ("uint32", "int64", "uint64") else xp.int32


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    """Return standard Gumbel samples of the shape and dtype and on the device of `like`."""
    return scalar_like(xp, like, numpy_gumbel(like.shape, rng))


def numpy_gumbel(shape: tuple[int, ...], rng: Any) -> Any:
    import numpy as np

    if rng is None:
        rng = np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a numpy.random.Generator")
    return rng.gumbel(size=shape)


def as_array(x: Array) -> Array:
    """Return a result as an array (NumPy turns 0-d results into scalars)."""
    return x


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of (namespace, array, kernel) as one operation, where a library compiles each in it alone."""
    return function


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    """Return a number, or nested tuples of numbers, as an array of the dtype and on the device of `x`."""
    return xp.asarray(value, dtype=x.dtype, device=device_of(x))


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    """Return `x` where `mask`, else the number `value`; `x` itself where `mask` is None."""
    return x if mask is None else xp.where(mask, x, scalar_like(xp, x, value))


def where_valid(xp: Namespace, valid: Array | None, x: Array) -> Array:
    """Return `x` of shape `(N, C, *S)` with 0 at the positions that are not valid."""
    return x if valid is None else where_or(xp, xp.expand_dims(valid, axis=1), x, 0.0)


def one_hot(xp: Namespace, labels: Array, classes: int) -> Array:
    """Return the boolean one-hot form `(N, C, *S)` of labels `(N, *S)`."""
    return xp.expand_dims(labels, axis=1) == _class_index(xp, labels, classes)


def _class_index(xp: Namespace, labels: Array, classes: int) -> Array:
    """Return the number of each class, in the dtype and on the device of labels, beside a class axis of theirs."""
    index = xp.arange(classes, dtype=labels.dtype, device=device_of(labels))
    return xp.reshape(index, (1, classes) + (1,) * (labels.ndim - 1))


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    """Return `per_class[label]` at every position."""
    return xp.reshape(xp.take(per_class, xp.reshape(labels, (-1,)), axis=0), labels.shape)


def sum_positions(xp: Namespace, x: Array) -> Array:
    """Return the sum over all axes behind the batch and the classes (torch takes no axes for all axes)."""
    return x if x.ndim == 2 else xp.sum(x, axis=tuple(range(2, x.ndim)))


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the product of matrices, with all the digits of their dtype."""
    return xp.matmul(a, b)


def count(xp: Namespace, mask: Array) -> Array:
    """Return how many entries of a mask are True, 0-d."""
    return xp.count_nonzero(mask)


def any_of(xp: Namespace, mask: Array) -> Array:
    """Return whether any entry of a mask is True, 0-d."""
    return xp.any(mask)


def running_sum(xp: Namespace, x: Array) -> Array:
    """Return the running sum of whole numbers along the last axis, in their dtype."""
    return xp.cumulative_sum(x, axis=-1, dtype=x.dtype)

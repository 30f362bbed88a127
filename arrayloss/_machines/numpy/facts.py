"""What NumPy tells of its arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.facts import numpy_gumbel


def host_range(x: Array) -> tuple[float, float] | None:
    if x.size == 0:
        return None
    # The reductions of the ufuncs, since the methods around them cost as much again on small arrays.
    return np.minimum.reduce(x, axis=None).item(), np.maximum.reduce(x, axis=None).item()


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return np.dtype(np.intp)


def as_array(x: Array) -> Array:
    # A gradient that is the same everywhere comes as a read-only view of one number, and one with respect to an array
    # of the other byte order in that order.
    if type(x) is np.ndarray and x.flags.writeable and x.dtype.isnative:
        return x
    return np.array(x, dtype=x.dtype.newbyteorder("="))


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return np.asarray(value, dtype=x.dtype)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    return numpy_gumbel(like.shape, rng).astype(like.dtype)

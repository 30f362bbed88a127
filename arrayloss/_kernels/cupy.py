"""CuPy kernels: the portable forms, with a partition for the k-th largest. Nothing here reads a device array."""

from __future__ import annotations

import sys

import array_api_compat.cupy
import cupy

from arrayloss._kernels.generic import *  # whatever has no faster form below is the portable one
from arrayloss._kernels.generic import Array, Namespace
from arrayloss._namespace import Library

LIBRARY = Library("cupy", array_api_compat.cupy, sys.modules[__name__])


def as_array(x: Array) -> Array:
    # A gradient that is the same everywhere comes as a view of one number, which must not be written through.
    return cupy.ascontiguousarray(x) if 0 in x.strides else x


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else cupy.where(mask, x, value)


def kth_largest(xp: Namespace, values: Array, k: int) -> Array:
    at = values.size - k
    return cupy.partition(cupy.reshape(values, (-1,)), at)[at]

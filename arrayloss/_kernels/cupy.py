"""CuPy kernels: the portable forms, with a partition for the k-th largest. Nothing here reads a device array."""

from __future__ import annotations

import sys

import array_api_compat.cupy
import cupy

from arrayloss._kernels.generic import *  # whatever has no faster form below is the portable one
from arrayloss._kernels.generic import Array, Namespace
from arrayloss._namespace import Library

LIBRARY = Library("cupy", array_api_compat.cupy, sys.modules[__name__])


def kth_largest(xp: Namespace, values: Array, k: int) -> Array:
    at = values.size - k
    return cupy.partition(cupy.reshape(values, (-1,)), at)[at]

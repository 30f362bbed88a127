"""Distances to the boundaries of regions: computed on the host, in NumPy, by SciPy."""

from __future__ import annotations

from typing import Any

from arrayloss._machines.namespace import Library

Array = Any
#: An array of NumPy.
HostArray = Any


def read(function: str, library: Library, name: str, x: Array, remedy: str) -> HostArray:
    """Return the values of an array; where they cannot be read, the error says what to do instead."""
    try:
        return library.kernels.on_host(x)
    except TypeError as error:
        raise TypeError(
            f"{function}: distances are computed on the host from the values of {name}, which cannot be read here: "
            f"{error}; {remedy}"
        ) from None


def regions(labels: HostArray, valid: HostArray | None, classes: range) -> HostArray:
    """Return where the valid pixels of each class are, shape (N, C, *S)."""
    import numpy as np

    index = np.asarray(classes).reshape((-1,) + (1,) * (labels.ndim - 1))
    regions = labels[:, None] == index
    return regions if valid is None else regions & valid[:, None]


def distances(
    regions: HostArray, valid: HostArray | None, signed: bool, spacing: tuple[float, ...] | None
) -> HostArray:
    """Return the distances of all pixels to the boundaries of the regions (N, C, *S), 0 where there is none."""
    import numpy as np

    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError as error:
        raise ImportError(
            "distances to a boundary need SciPy, which is not installed: pip install 'arrayloss[distance]'"
        ) from error
    step = min(spacing) if spacing else 1.0
    found = np.zeros(regions.shape, dtype=np.float32)
    for n, c in np.ndindex(*regions.shape[:2]):
        inside = regions[n, c]
        outside = ~inside if valid is None else valid[n] & ~inside
        # From a set without pixels there is no distance; what the transform then returns means nothing.
        if not (inside.any() and outside.any()):
            continue
        away, within = (distance_transform_edt(~a, sampling=spacing) for a in (inside, outside))
        values = np.where(inside, step - within if signed else within, away)
        found[n, c] = values if valid is None else np.where(valid[n], values, 0.0)
    return found

"""Sums and selections by place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.rule import Rule, rule


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    counts = np.empty((labels.shape[0], classes), dtype=dtype)
    for n, y in enumerate(labels):
        counts[n] = np.bincount(y.ravel() if valid is None else y[valid[n]], minlength=classes)
    return counts


@rule
def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Rule:
    images = x.shape[0]
    flat = bins + np.arange(images)[:, None] * size
    totals = np.bincount(flat.reshape(-1), weights=x.reshape(-1), minlength=images * size)
    return totals.reshape(images, size).astype(x.dtype), lambda g: np.take_along_axis(g, bins, axis=1)


@rule
def take_positions(xp: Namespace, x: Array, places: Array) -> Rule:
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    there = places < flat.shape[0] * flat.shape[2]
    image, position = np.divmod(places[there], flat.shape[2])
    rows = np.zeros((places.size, flat.shape[1]), dtype=x.dtype)
    rows[there] = flat[image, :, position]

    def vjp(g: Array) -> Array:
        back = np.zeros(flat.shape, dtype=x.dtype)
        back[image, :, position] = g[there]
        return back.reshape(x.shape)

    return rows, vjp

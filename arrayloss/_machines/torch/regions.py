"""Sums over regions: of labels under softmax by torch, of anything else by NumPy's machine."""

from __future__ import annotations

import math
from typing import Any

import torch

from arrayloss._machines.formula import AREAS, Array, Formula, Namespace
from arrayloss._machines.generic.regions import _by_autodiff
from arrayloss._machines.generic.rule import Rule
from arrayloss._machines.torch.classes import softmax, softmax_rule
from arrayloss._machines.torch.entries import sigmoid
from arrayloss._machines.torch.host import hosted, ruled
from arrayloss._machines.torch.places import label_counts


def regions(
    xp: Namespace, z: Array, t: Array, valid: Array | None, activation: str | None, formula: Formula, *numbers: float
) -> Array:
    if t.ndim < z.ndim and activation == "softmax" and formula is AREAS:
        counts = label_counts(xp, t, valid, z.shape[1], z.dtype)
        return torch.cat([_label_areas(xp, z, t, valid), counts.unsqueeze(0)])
    # torch's sigmoid is a single pass, and NumPy's is not.
    kernel = _of_softmax if activation == "softmax" else _native
    return kernel(xp, z, t, valid, activation, formula, *numbers)


def _native(xp: Namespace, *arguments: Any) -> Array:
    return _by_autodiff(xp, softmax, sigmoid, *arguments)


_of_softmax = hosted("regions")(_native)


def _label_and_class_sums(p: Array, at_label: Array, labels: Array) -> Array:
    n, c = p.shape[:2]
    index = labels.reshape(n, math.prod(labels.shape[1:]))
    # Bins in float64: a float32 running sum drifts over a large image.
    bins = torch.zeros((n, c), dtype=torch.float64, device=p.device)
    overlap = bins.scatter_add(1, index, at_label.reshape(index.shape).to(torch.float64)).to(p.dtype)
    return torch.stack([overlap, p.reshape(n, c, index.shape[1]).sum(2)])


def _label_areas_rule(z: Array, labels: Array, valid: Array | None) -> Rule:
    p, _ = softmax_rule(z, valid)
    index = labels.unsqueeze(1)
    at_label = p.gather(1, index)

    def vjp(g: Array) -> Array:
        n, c = p.shape[:2]
        rows = labels.reshape(n, math.prod(labels.shape[1:]))
        hit = g[0].gather(1, rows).reshape(index.shape) * at_label
        # p (g - sum of p g), into p itself, slab by slab: what lies between is small.
        with torch.autocast("cpu", enabled=False):  # which would make it a product of bfloat16
            mean = torch.bmm(g[1].unsqueeze(1), p.reshape(n, c, rows.shape[1])).reshape(labels.shape) + hit.squeeze(1)
        each = g[1].reshape(n, c, *(1,) * (mean.ndim - 1))
        for at in _slabs(p):
            p[:, at].mul_(each[:, at] - mean.unsqueeze(1))
        return p.scatter_add_(1, index, hit)

    return _label_and_class_sums(p, at_label, labels), vjp


def _slabs(x: Array) -> list[slice]:
    """Return slices of the classes, not many, of which each stays in the cache."""
    classes = x.shape[1]
    step = -(-classes // max(1, min(classes, 32, x.numel() >> 17)))
    return [slice(c, c + step) for c in range(0, classes, step)]


@ruled(_label_areas_rule)
def _label_areas(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    p = softmax(xp, z, valid)
    return _label_and_class_sums(p, p.gather(1, labels.unsqueeze(1)), labels)

"""Sums and selections by place."""

from __future__ import annotations

import math
from typing import Any

import torch

from arrayloss._machines.formula import Array, Namespace


def take_positions(xp: Namespace, x: Array, places: Array) -> Array:
    flat = x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))
    there = places < flat.shape[0] * flat.shape[2]
    at = torch.where(there, places, 0)
    return torch.where(there.unsqueeze(1), flat[at // flat.shape[2], :, at % flat.shape[2]], 0.0)


def take_rows(xp: Namespace, rows: Array, index: Array) -> Array:
    # torch gathers no unsigned integers wider than a byte, but does so as signed ones.
    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}.get(rows.dtype)
    return rows.gather(1, index) if signed is None else rows.view(signed).gather(1, index).view(rows.dtype)


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    rows = labels.reshape(labels.shape[0], math.prod(labels.shape[1:]))
    ones = torch.ones_like(rows) if valid is None else valid.reshape(rows.shape).to(rows.dtype)
    zero = torch.zeros((rows.shape[0], classes), dtype=rows.dtype, device=rows.device)
    return zero.scatter_add(1, rows, ones).to(dtype)


def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Array:
    # In float64: a float32 running sum drifts over a large image.
    zero = torch.zeros((x.shape[0], size), dtype=torch.float64, device=x.device)
    return zero.scatter_add(1, bins, x.to(torch.float64)).to(x.dtype)

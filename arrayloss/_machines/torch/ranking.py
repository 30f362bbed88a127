"""What ranks: NumPy on the host, torch's own sort elsewhere."""

from __future__ import annotations

import numpy as np
import torch

from arrayloss._machines import namespace
from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic import ranking as generic
from arrayloss._machines.torch.facts import running_sum
from arrayloss._machines.torch.host import eager, hosted


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    at = rows.shape[1] - k
    if eager(rows) and not namespace.PORTABLE:
        # A partition, where torch sorts; copied, since the column keeps all rows.
        return torch.from_numpy(np.partition(rows.detach().numpy(), at, axis=1)[:, at].copy())
    return torch.kthvalue(rows, at + 1, dim=1).values


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    if eager(row) and int((row > bound).count_nonzero()) >= k:
        return torch.full((1,), torch.inf, dtype=row.dtype)
    return kth_largest(xp, row, k)


def _running_max(xp: Namespace, x: Array) -> Array:
    return torch.cummax(x, dim=-1).values


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    errors = errors.detach()
    keys = errors if valid is None else torch.where(valid, errors, -1.0)
    ranked, order = torch.sort(keys, dim=-1, descending=True)
    weights = generic.ranked_lovasz_weights(
        xp, ranked, positive.gather(-1, order).to(torch.int64), running_sum, _running_max
    )
    return torch.zeros_like(weights).scatter(-1, order, weights)


@hosted("lovasz_softmax")
def lovasz_softmax(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return generic.lovasz_softmax(xp, p, labels, valid, per_image, lovasz_weights)[0]


@hosted("lovasz_hinge")
def lovasz_hinge(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return generic.lovasz_hinge(xp, z, labels, valid, per_image, lovasz_weights)[0]

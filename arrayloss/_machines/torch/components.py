"""Connected components, by NumPy on the host; the class with the largest score."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch
import torch

from arrayloss._machines import namespace
from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic import components as generic
from arrayloss._machines.numpy.components import ranked_components


def top_class(xp: Namespace, z: Array) -> Array:
    return z.max(1).indices  # the first, as of argmax, which is slower on the CPU


def _components_of(labels: Array, classes: int, most: int) -> Array:
    if labels.device.type == "cpu" and not namespace.PORTABLE:
        return torch.from_numpy(ranked_components(labels.numpy(), classes, most))
    return generic.components(array_api_compat.torch, labels, classes, most)


# An operator of its own, into which nothing looks: a compiler sees one step, and on the host NumPy labels the regions
# under the transforms too.
_components: Any = torch.library.custom_op(
    "arrayloss::components",
    _components_of,
    mutates_args=(),
    schema="(Tensor labels, SymInt classes, SymInt most) -> Tensor",
)


def _components_mapped(info: Any, in_dims: Any, labels: Array, classes: int, most: int) -> tuple[Array, int]:
    labels = labels.movedim(in_dims[0], 0)
    return _components(labels.flatten(0, 1), classes, most).reshape(labels.shape), 0


_components.register_fake(lambda labels, classes, most: torch.empty_like(labels, memory_format=torch.contiguous_format))
_components.register_vmap(_components_mapped)


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    return _components(labels, classes, most)

"""Losses of other libraries beside those of arrayloss."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

import arrayloss as al

Array = Any


def table(logits: Array, pairs: Mapping[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]]) -> None:
    """Print, for each pair of functions of the logits, both values and how far apart values and gradients are."""
    compiled = _jit if type(logits).__module__.startswith("jax") else lambda f: f
    width = max(map(len, pairs)) + 2
    print(f"{'':{width}}{'there':>10}{'arrayloss':>11}{'values apart':>14}{'gradients apart':>17}")
    for name, functions in pairs.items():
        results = [compiled(al.value_and_grad(lambda x, _, f=f: f(x)))(logits, None) for f in functions]
        (there, slope), (here, ours) = results
        apart, gradients = abs(float(there) - float(here)), float(abs(slope - ours).max() / abs(slope).max())
        print(f"{name:{width}}{float(there):10.6f}{float(here):11.6f}{apart:14.0e}{gradients:17.0e}")


def _jit(f: Callable) -> Callable:
    import jax

    return jax.jit(f)


def as_one_image(x: Array) -> Array:
    """Return `(N, C, *S)` or `(N, *S)` as a batch of one, for losses taken over all pixels of a batch at once."""
    if x.ndim == 4:
        return x.swapaxes(0, 1).reshape(1, x.shape[1], -1)
    return x.reshape(1, -1)


def versions(*packages: str) -> None:
    """Print the versions that a page was built with."""
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))


def let_torchvision_load() -> object:
    """Import torchvision; where its build does not match that of torch, declare the operators it misses.

    Losses need none of them. The object returned, if any, keeps them declared.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None

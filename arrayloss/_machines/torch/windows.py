"""What the linear prediction of windows leaves, with all the digits of float64 where autodiff goes through it."""

from __future__ import annotations

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic import windows as generic
from arrayloss._machines.torch.host import hosted


@hosted("unexplained")
def unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    if predicted.device.type == "mps":
        return generic.unexplained(xp, predicted, true, valid, radius)[0]
    # In float64, which autocast leaves alone, also in a backward pass that runs under it.
    return generic.unexplained(xp, predicted.double(), true.double(), valid, radius)[0].to(predicted.dtype)

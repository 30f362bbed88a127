"""What is measured: losses with their inputs here, and for each library, in its module, the peers and the targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _timing
import numpy as np

import arrayloss as al

Array = Any
#: A contestant on its inputs: returns the value and the gradient (None without).
Run = Callable[[], tuple[Array, Array]]


@dataclass(frozen=True)
class Loss:
    """A loss and its input; `tolerance` is how far gradients may lie apart, norm-wise."""

    ours: Callable[..., Any]
    inputs: str = "scene"
    tolerance: float = 5e-5
    sorts: bool = False
    repeats: int = 1


@dataclass(frozen=True)
class Peer:
    """Another implementation, and the ratios to it that arrayloss aims at, with gradient and without.

    `prepare` is how it runs where that is not how arrayloss runs in the same module.
    """

    name: str
    loss: Callable[..., Any]
    both: float | None = None
    forward: float | None = None
    prepare: Callable[..., Run] | None = None


def each(convert: Callable[[Any], Any], x: Any) -> Any:
    """Return an array, or the arrays of a tuple, converted."""
    return tuple(map(convert, x)) if isinstance(x, tuple) else convert(x)


#: How far values may lie apart, relatively: in float32 smp's sums of Dice drift by 1.4e-4, all others agree to 3e-6.
VALUE_TOLERANCE = 3e-4
# Gradients of Lovasz losses in float32 depend on what becomes of ties (arrayloss shares their weight, the peers take
# them in some order), and the peers' differences of cumulative sums cancel: both are of the order of 1e-2. In float64,
# where ties are few, the same forms of the Lovasz-softmax agree to 1e-11. Probabilities, by which the peers of OHEM
# rank, may tie where cross entropies do not.
LOVASZ, OHEM = 3e-2, 1e-3

#: kornia's and MONAI's Dice, smp's Lovasz and the reference forms ignore a label as arrayloss does. smp sums Dice over
#: the batch, so both sides get one image; kornia averages Lovasz over images and all classes, and arrayloss is told
#: to. Those that ignore nothing (kornia's Lovasz, every BCE, optax's Dice) are timed on inputs without an ignored
#: pixel, and arrayloss looks for them all the same.
#:
#: Passes of arrayloss over arrays of the size of the logits, reads + writes, forward; backward. What a block reads or
#: writes again while it is in the cache counts once, gathers and scatters at the labels do not count. For JAX as the
#: code stands: XLA fuses as it likes.
#:
#:                   NumPy       torch       JAX         remarks
#: cross entropy     1+1; 1+1    1+1; 2+2    2+0; 1+1    JAX without gradient: maximum, then sum of exponentials
#: BCE               2+1; 1+1    2+0; 4+3    2+0; 2+1    the target is as large as the logits, and read each time
#: BCE, labels       1+1; 1+1    1+0; 2+2    1+0; 1+1
#: Dice              1+1; 1+1    3+2; 2+1    4+1; 2+1    torch: softmax, mask, sums; product, scaling
#: Lovasz-softmax    2+2; 3+2    3+3; 3+2    5+3; 3+1    and per class the sort of a row of 64-bit keys
#: Lovasz hinge      1+1; 1+1    1+1; 1+1    1+2; 1+1    and the sort of the positive errors
#: OHEM              1+1; 1+1    1+1; 2+2    2+0; 1+1    as cross entropy; the selection is among losses of pixels
LOSSES = {
    "cross entropy": Loss(al.CrossEntropyLoss()),
    "BCE": Loss(al.BCELoss(), "probabilities"),
    "BCE, labels": Loss(al.BCELoss(), "valid"),
    "Dice": Loss(al.DiceLoss()),
    "Dice, all valid": Loss(al.DiceLoss(), "valid"),
    "Dice, one image": Loss(al.DiceLoss(), "one image"),
    "Lovasz-softmax": Loss(al.LovaszSoftmaxLoss(), tolerance=LOVASZ, sorts=True),
    "Lovasz-softmax, per image": Loss(
        al.LovaszSoftmaxLoss(classes="all", per_image=True), "valid", tolerance=LOVASZ, sorts=True
    ),
    "Lovasz hinge": Loss(al.LovaszHingeLoss(), "binary", tolerance=LOVASZ, sorts=True),
    "OHEM, min_kept 20000": Loss(al.OhemCrossEntropyLoss(min_kept=20_000), "confident", tolerance=OHEM),
    "OHEM, min_kept 100000": Loss(al.OhemCrossEntropyLoss(min_kept=100_000), "confident", tolerance=OHEM),
    "cross entropy, small": Loss(al.cross_entropy_loss, "small", repeats=200),
    "cross entropy object, small": Loss(al.CrossEntropyLoss(), "small", repeats=200),
}


def inputs(kind: str, shape: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and target: `shape` is that of the logits with classes; binary ones have four times the pixels."""
    images, classes, height, width = shape
    match kind:
        case "small":
            rng = np.random.default_rng(0)
            return rng.standard_normal((32, 10), dtype=np.float32), rng.integers(0, 10, 32)
        case "binary":
            return _timing.scene((images, 1, 2 * height, 2 * width))
        case "one image":
            return _timing.scene((1, classes, images * height, width))
        case "valid":
            return _timing.scene(shape, ignored=0.0)
        case "probabilities":
            logits, _ = _timing.scene(shape, ignored=0.0)
            return logits, np.random.default_rng(1).random(shape, dtype=np.float32)
        case "confident":
            # Between the two min_kept of the pixels lie below thresh: one row counts, the other needs the k-th.
            return _timing.scene(shape, margin=12.0)
        case _:
            return _timing.scene(shape)

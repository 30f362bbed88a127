"""What the benchmark of the whole catalogue measures: each loss with the input it takes, at (4, 19, 256, 256).

Losses that ignore labels do so on both sides. Where the peer ignores nothing, neither does arrayloss: the inputs have
no label of 255, and losses of entries are told `ignore_index=None`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import _timing
import numpy as np

import arrayloss as al
from _peers import Loss
from _peers import textbook as written

SHAPE, QUICK_SHAPE = (4, 19, 256, 256), (2, 5, 32, 32)


def with_labels(loss: Any) -> Any:
    """A loss of a teacher's scores and labels as one of (logits, (teacher, labels))."""
    return lambda x, both: loss(x, both[0], labels=both[1])


def with_array(loss: Any, *names: str) -> Any:
    """A loss of labels and further arrays, each of which the same, as one of (logits, (labels, array))."""
    return lambda x, both: loss(x, both[0], **dict.fromkeys(names, both[1]))


def one_sided(x: Any, both: Any) -> Any:
    """The Hausdorff loss with the distances of the target alone."""
    return al.HausdorffDTLoss()(x, both[0], target_distance=both[1], prediction_distance=0)


#: Each loss by its class: how it is called, on what, and as the textbook has it.
LOSSES: dict[str, tuple[Loss, Any]] = {
    "FocalLoss": (Loss(al.FocalLoss(), "valid"), written.focal),
    "SigmoidFocalLoss": (Loss(al.SigmoidFocalLoss(ignore_index=None), "probabilities"), written.sigmoid_focal),
    "AsymmetricLoss": (Loss(al.AsymmetricLoss(ignore_index=None), "probabilities"), written.asymmetric),
    "PolyLoss": (Loss(al.PolyLoss()), written.poly),
    "SymmetricCrossEntropyLoss": (Loss(al.SymmetricCrossEntropyLoss()), written.symmetric),
    "GeneralizedCrossEntropyLoss": (Loss(al.GeneralizedCrossEntropyLoss()), written.generalized),
    "JaccardLoss": (Loss(al.JaccardLoss()), written.jaccard),
    "TverskyLoss": (Loss(al.TverskyLoss(0.3, 0.7)), written.tversky),
    "GeneralizedDiceLoss": (Loss(al.GeneralizedDiceLoss(), "valid"), written.generalized_dice),
    "LogCoshDiceLoss": (Loss(al.LogCoshDiceLoss()), written.log_cosh_dice),
    "DiceCELoss": (Loss(al.DiceCELoss(), "valid"), written.dice_ce),
    "BCEDiceLoss": (Loss(al.BCEDiceLoss(ignore_index=None), "probabilities"), written.bce_dice),
    "KLDivLoss": (Loss(al.KLDivLoss(), "teacher"), written.kl_div),
    "JSDivLoss": (Loss(al.JSDivLoss(), "teacher"), written.js_div),
    "DistillCrossEntropyLoss": (Loss(al.DistillCrossEntropyLoss(), "teacher"), written.distill_cross_entropy),
    "DistillationLoss": (
        Loss(with_labels(al.DistillationLoss(alpha=0.5, temperature=2.0)), "teacher and labels"),
        written.distillation,
    ),
    "PointCrossEntropyLoss": (Loss(al.PointCrossEntropyLoss(), "points"), written.points),
    "SECrossEntropyLoss": (Loss(al.SECrossEntropyLoss(), "scene and map"), written.scene),
    "BoundaryLoss": (Loss(with_array(al.BoundaryLoss(), "distance"), "labels and distance"), written.boundary),
    "HausdorffDTLoss": (Loss(one_sided, "labels and distance"), written.hausdorff),
    "HingeLoss": (Loss(al.HingeLoss(ignore_index=None), "bits"), written.hinge),
    "SquaredHingeLoss": (Loss(al.SquaredHingeLoss(ignore_index=None), "bits"), written.squared_hinge),
    "MultiMarginLoss": (Loss(al.MultiMarginLoss(), "valid"), written.multi_margin),
    # Where prediction and target are equal, jnp.abs has a slope of 1.
    "L1Loss": (Loss(al.L1Loss(ignore_index=None), "numbers", tolerance=1e-3), None),
    "MSELoss": (Loss(al.MSELoss(ignore_index=None), "numbers"), None),
    "SmoothL1Loss": (Loss(al.SmoothL1Loss(ignore_index=None), "numbers"), written.smooth_l1),
    "HuberLoss": (Loss(al.HuberLoss(ignore_index=None), "numbers"), None),
    "LogCoshLoss": (Loss(al.LogCoshLoss(ignore_index=None), "numbers"), written.log_cosh),
    "CharbonnierLoss": (Loss(al.CharbonnierLoss(ignore_index=None), "numbers"), written.charbonnier),
    "QuantileLoss": (Loss(al.QuantileLoss(0.9, ignore_index=None), "numbers"), written.quantile),
    "PoissonNLLLoss": (Loss(al.PoissonNLLLoss(ignore_index=None), "counts"), written.poisson_nll),
    "GaussianNLLLoss": (Loss(al.GaussianNLLLoss(ignore_index=None), "mean and variance"), written.gaussian_nll),
}


def inputs(kind: str, shape: tuple[int, int, int, int]) -> tuple[Any, Any]:
    """Return logits and target, either of which may be a tuple of arrays."""
    import _peers

    rng = np.random.default_rng(1)
    logits, labels = _timing.scene(shape, ignored=0.0)
    images, classes, height, width = shape
    match kind:
        case "teacher":
            return logits, 2 * rng.standard_normal(shape, dtype=np.float32)
        case "teacher and labels":
            return logits, (2 * rng.standard_normal(shape, dtype=np.float32), labels)
        case "labels and distance":
            return logits, (labels, 10 * rng.random(shape, dtype=np.float32))
        case "bits":
            return logits, (rng.random(shape) < 0.3).astype(np.float32)
        case "numbers":
            return logits, rng.standard_normal(shape, dtype=np.float32)
        case "counts":
            return logits / 4, rng.poisson(2.0, shape).astype(np.float32)
        case "mean and variance":
            return (logits, rng.random(shape, dtype=np.float32) + 0.5), rng.standard_normal(shape, dtype=np.float32)
        case "scene and map":
            return rng.standard_normal((images, classes), dtype=np.float32), labels
        case "points":
            number = height * width // 16
            scores = rng.standard_normal((images, classes, number), dtype=np.float32)
            return (scores, rng.random((images, number, 2), dtype=np.float32)), labels
        case _:
            return _peers.inputs(kind, shape)


def textbook(ops: Any, name: str) -> Any:
    """Return the textbook form of a loss for a library."""
    return partial(LOSSES[name][1], ops)

"""What each loss asks of the scores of one class: gradients on a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import arrayloss as al
from _shared.network import network, train
from _shared.scenes import IGNORED, Scene

#: One of each loss, with options that select some, but not most, of the pixels of the small picture.
LOSSES: tuple[al.Loss, ...] = (
    al.CrossEntropyLoss(),
    al.BCELoss(),
    al.OhemCrossEntropyLoss(min_kept=1000),
    al.BootstrappedCrossEntropyLoss(min_K=1000, loss_th=0.3),
    al.EdgeAttentionLoss(),
    al.OhemEdgeAttentionLoss(min_kept=500),
    al.RelaxBoundaryLoss(),
    al.DualTaskLoss(),
    al.DiceLoss(),
    al.LovaszSoftmaxLoss(),
    al.LovaszHingeLoss(),
    al.L1Loss(),
    al.MSELoss(),
    al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss()], [0.5, 0.5]),
)


def logits_during_training(scene: Scene, steps: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return the logits `(1, C, H, W)` of a network after some steps of training on the scene by cross entropy."""
    model = network(5, len(scene.classes), reaches=(1, 2, 4, 8))
    _, recorded = train(
        model, al.CrossEntropyLoss(), scene.inputs, scene.labels[None], steps=max(steps), record=steps, last_rate=2e-4
    )
    return recorded


def softmax(logits):
    """Return probabilities along axis 1, of any array: `value_and_grad` differentiates this too."""
    xp = logits.__array_namespace__()
    odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return odds / xp.sum(odds, axis=1, keepdims=True)


def gradient_map(loss: al.Loss, logits: np.ndarray, labels: np.ndarray, focus: int) -> np.ndarray:
    """Return the gradient `(H, W)` of a loss with respect to the logits of the class `focus`, of a batch of one."""
    ignored = labels == IGNORED
    objective: Callable = loss
    if isinstance(loss, (al.EdgeAttentionLoss, al.OhemEdgeAttentionLoss)):
        edges = (al.label_edges(labels) == 1)[:, None].astype(logits.dtype)
        return al.value_and_grad(loss)((logits, edges), labels)[1][0][0, focus]
    if isinstance(loss, al.LovaszHingeLoss):
        others = np.delete(logits, focus, axis=1)
        logits = logits[:, focus : focus + 1] - np.log(np.exp(others).sum(axis=1, keepdims=True))
        labels, focus = np.where(ignored, IGNORED, labels == focus), 0
    elif isinstance(loss, (al.L1Loss, al.MSELoss)):
        one_hot = labels[:, None] == np.arange(logits.shape[1])[:, None, None]
        labels = np.where(ignored[:, None], IGNORED, one_hot.astype(logits.dtype))

        def objective(logits, target):
            return loss(softmax(logits), target)

    arrays = {"noise": np.zeros_like(logits)} if isinstance(loss, al.DualTaskLoss) else {}
    return al.value_and_grad(objective)(logits, labels, **arrays)[1][0, focus]

"""What each loss asks of the scores of one class: gradients on a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Memory

import arrayloss as al
from _shared import executed
from _shared.network import network, train
from _shared.scenes import IGNORED, Scene

Array = Any
#: The class whose scores are looked at: the motorcycle.
FOCUS = 3
#: Steps of training after which gradients are shown, and those after which the network is the teacher of others.
EARLY, LATE, TEACHER = 20, 300, 100


@dataclass(frozen=True)
class View:
    """A labelled picture, and logits `(1, C, H, W)` by the steps of training that a network gave them after."""

    labels: np.ndarray
    logits: dict[int, np.ndarray]

    @property
    def teacher(self) -> np.ndarray:
        return self.logits[TEACHER]

    @property
    def one_hot(self) -> np.ndarray:
        """The target of losses that compare entry by entry, `(1, C, H, W)`."""
        hit = self.labels[:, None] == np.arange(self.teacher.shape[1])[:, None, None]
        return np.where(self.labels[:, None] == IGNORED, IGNORED, hit).astype(np.float32)

    @property
    def is_focus(self) -> np.ndarray:
        """1 where the label is the class looked at, else 0."""
        return np.where(self.labels == IGNORED, IGNORED, self.labels == FOCUS)

    @property
    def edges(self) -> np.ndarray:
        """1 at the edges of the labels, else 0, `(1, 1, H, W)`."""
        return (al.label_edges(self.labels) == 1)[:, None].astype(np.float32)


def look(scene: Scene) -> View:
    """Return a scene with the logits of a network that is trained on it by cross entropy.

    They are kept with the outputs of pages: a page and the figures of all losses want the same, in two processes.
    """
    labels = scene.labels[None]
    kept = Memory(executed.folder() / "maps", verbose=0).cache(_trained)
    return View(labels, kept(scene.inputs, labels, len(scene.classes)))


def _trained(inputs: np.ndarray, labels: np.ndarray, classes: int) -> dict[int, np.ndarray]:
    steps = (EARLY, TEACHER, LATE)
    model = network(inputs.shape[1], classes, reaches=(1, 2, 4, 8))
    return train(model, al.CrossEntropyLoss(), inputs, labels, steps=max(steps), record=steps, last_rate=2e-4)[1]


@dataclass(frozen=True)
class Fed:
    """Losses, how logits become what they take, and what to say of that."""

    call: Callable[[al.Loss, Array, View], Array]
    how: str
    losses: tuple[al.Loss, ...]


def softmax(logits):
    """Return probabilities along axis 1, of any array: `value_and_grad` differentiates this too."""
    xp = logits.__array_namespace__()
    odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return odds / xp.sum(odds, axis=1, keepdims=True)


def log_odds(logits):
    """Return the log odds of the class looked at against all others, `(N, 1, H, W)`."""
    xp = logits.__array_namespace__()
    others = xp.exp(logits[:, :FOCUS]), xp.exp(logits[:, FOCUS + 1 :])
    return logits[:, FOCUS : FOCUS + 1] - xp.log(sum(xp.sum(x, axis=1, keepdims=True) for x in others))


_PROBABILITY = (
    "The loss compares the probabilities of all classes with the one-hot target; the gradient is carried on through "
    "the softmax."
)
_ODDS = "The score is the log odds of motorcycle against all other classes"
_TEACHER = f"The teacher is the same network after {TEACHER} steps."
#: One of each loss that makes a picture, with options that select some, but not most, of the pixels of the small one.
FED: tuple[Fed, ...] = (
    Fed(
        lambda loss, z, view: loss(z, view.labels),
        "",
        (
            al.CrossEntropyLoss(),
            al.BCELoss(),
            al.FocalLoss(),
            al.SigmoidFocalLoss(),
            al.AsymmetricLoss(),
            al.PolyLoss(),
            al.SymmetricCrossEntropyLoss(),
            al.GeneralizedCrossEntropyLoss(),
            al.HingeLoss(),
            al.SquaredHingeLoss(),
            al.MultiMarginLoss(),
            al.OhemCrossEntropyLoss(min_kept=1000),
            al.BootstrappedCrossEntropyLoss(min_K=1000, loss_th=0.3),
            al.RelaxBoundaryLoss(),
            al.BoundaryLoss(),
            al.HausdorffDTLoss(),
            al.DiceLoss(),
            al.GeneralizedDiceLoss(),
            al.LogCoshDiceLoss(),
            al.JaccardLoss(),
            al.TverskyLoss(0.3, 0.7),
            al.LovaszSoftmaxLoss(),
            al.SemanticConnectivityLoss(),
            al.RMILoss(),
            al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss()], [0.5, 0.5]),
            al.DiceCELoss(),
            al.BCEDiceLoss(),
        ),
    ),
    Fed(
        lambda loss, z, view: loss((z, view.edges), view.labels),
        "The edges are those of the target, `al.label_edges(labels)`.",
        (al.EdgeAttentionLoss(), al.OhemEdgeAttentionLoss(min_kept=500)),
    ),
    Fed(
        lambda loss, z, view: loss(z, view.labels, noise=np.zeros(z.shape, dtype=np.float32)),
        "The noise is 0.",
        (al.DualTaskLoss(),),
    ),
    Fed(lambda loss, z, view: loss(log_odds(z), view.is_focus), f"{_ODDS}.", (al.LovaszHingeLoss(),)),
    Fed(
        lambda loss, z, view: loss(log_odds(z), view.labels),
        f"{_ODDS}, taken for that of a detail, since the network has no head for these.",
        (al.DetailAggregateLoss(),),
    ),
    Fed(
        lambda loss, z, view: loss(z, view.teacher, labels=view.labels),
        _TEACHER,
        (al.KLDivLoss(), al.JSDivLoss(), al.DistillationLoss(), al.DistillCrossEntropyLoss()),
    ),
    Fed(
        lambda loss, z, view: loss(softmax(z), view.one_hot),
        _PROBABILITY,
        (
            al.L1Loss(),
            al.MSELoss(),
            al.SmoothL1Loss(0.2, ignore_index=IGNORED),
            al.HuberLoss(0.2, ignore_index=IGNORED),
            al.LogCoshLoss(ignore_index=IGNORED),
            al.CharbonnierLoss(0.2, ignore_index=IGNORED),
            al.QuantileLoss(0.9, ignore_index=IGNORED),
        ),
    ),
    Fed(
        lambda loss, z, view: loss((softmax(z), np.full(z.shape, 0.1, dtype=np.float32)), view.one_hot),
        _PROBABILITY + " The variance is 0.1 everywhere, which leaves the map of MSE.",
        (al.GaussianNLLLoss(ignore_index=IGNORED),),
    ),
    Fed(
        lambda loss, z, view: loss(softmax(z), view.one_hot),
        "The rates are the probabilities of all classes, the counts the one-hot target; the gradient is carried on "
        "through the softmax.",
        (al.PoissonNLLLoss(log_input=False, ignore_index=IGNORED),),
    ),
)
#: The same by the name of the loss.
BY_NAME: dict[str, tuple[al.Loss, Fed]] = {type(loss).__name__: (loss, fed) for fed in FED for loss in fed.losses}


def gradient_map(name: str, view: View, step: int) -> np.ndarray:
    """Return the gradient `(H, W)` of a loss with respect to the logits of the class looked at."""
    loss, fed = BY_NAME[name]
    _, gradient = al.value_and_grad(lambda z, view: fed.call(loss, z, view))(view.logits[step], view)
    return gradient[0, FOCUS]

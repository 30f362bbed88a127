"""The loss cases that the contract suite runs over: each loss with several option sets, a line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import reference

import arrayloss as al

Generator = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """Inputs of one call, in NumPy, float64."""

    logits: Any
    target: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    #: Entries of the (first) logits that are ignored.
    ignored: np.ndarray | None = None

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        return self.logits if isinstance(self.logits, tuple) else (self.logits,)


def labels(rng: Generator, classes: int = 4, space: tuple[int, ...] = (5, 6), ignore: int | None = 255) -> Sample:
    """Scores of several classes against integer labels, some of them ignored."""
    logits = rng.normal(size=(2, classes, *space)) * 2
    target = rng.integers(0, classes, size=(2, *space))
    if ignore is not None:
        target[rng.random(target.shape) < 0.2] = ignore
    return Sample(logits, target, ignored=np.broadcast_to((target == ignore)[:, None], logits.shape))


def soft(rng: Generator) -> Sample:
    """Scores against probabilities."""
    logits = rng.normal(size=(2, 3, 4, 5))
    raw = np.exp(rng.normal(size=logits.shape))
    return Sample(logits, raw / raw.sum(axis=1, keepdims=True))


def weighted(rng: Generator) -> Sample:
    sample = labels(rng)
    return replace(sample, arrays={"pixel_weight": rng.random(sample.target.shape)})


def binary(rng: Generator) -> Sample:
    """One score against 0 and 1."""
    logits = rng.normal(size=(2, 1, 5, 6)) * 2
    target = rng.integers(0, 2, size=(2, 5, 6))
    target[rng.random(target.shape) < 0.2] = 255
    return Sample(logits, target, ignored=(target == 255)[:, None])


def multilabel(rng: Generator) -> Sample:
    """Independent scores against a probability for each, some entries ignored."""
    logits = rng.normal(size=(2, 3, 4, 5)) * 2
    target = rng.random(logits.shape)
    target[rng.random(target.shape) < 0.3] = 1.0
    target[rng.random(target.shape) < 0.3] = 0.0
    target[rng.random(target.shape) < 0.2] = 255.0
    return Sample(logits, target, ignored=target == 255)


def label_map(rng: Generator) -> Sample:
    """One score against the edges of a label map of squares."""
    target = np.kron(rng.integers(0, 3, size=(2, 2, 2)), np.ones((1, 8, 8), dtype=np.int64))
    target[rng.random(target.shape) < 0.1] = 255
    return Sample(rng.normal(size=(2, 1, 16, 16)), target, ignored=(target == 255)[:, None])


def entries(rng: Generator) -> Sample:
    """A prediction against a real target, some entries ignored."""
    prediction, target = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    target[rng.random(target.shape) < 0.2] = 255.0
    return Sample(prediction, target, ignored=target == 255)


def images(rng: Generator) -> Sample:
    """Images in which neighbourhoods matter: labels in squares, some pixels ignored."""
    sample = labels(rng, space=(7, 9))
    blocky = np.kron(rng.integers(0, 4, size=(2, 3, 3)), np.ones((1, 3, 3), dtype=np.int64))[:, :7, :9]
    return replace(sample, target=np.where(sample.target == 255, 255, blocky))


def noisy(rng: Generator) -> Sample:
    """The same with Gumbel noise."""
    sample = images(rng)
    return replace(sample, arrays={"noise": rng.gumbel(size=sample.logits.shape)})


def edged(rng: Generator) -> Sample:
    """Scores and the probability of an edge, against labels."""
    sample = labels(rng)
    edge = rng.random((2, 1, *sample.target.shape[1:]))
    return replace(sample, logits=(sample.logits, edge))


def sparse(rng: Generator) -> Sample:
    """Labels among which a class is missing."""
    sample = labels(rng, classes=5)
    return replace(sample, target=np.where(sample.target == 3, 1, sample.target))


def two_scores(rng: Generator) -> Sample:
    """Scores of background and foreground against 0 and 1."""
    return labels(rng, classes=2)


def patches(rng: Generator) -> Sample:
    """Images with room for windows: labels in squares, of which few pixels are ignored."""
    sample = labels(rng, classes=3, space=(7, 8), ignore=None)
    target = np.kron(rng.integers(0, 3, size=(2, 3, 3)), np.ones((1, 3, 3), dtype=np.int64))[:, :7, :8]
    target[:, 1, 0] = target[0, 6, 5:7] = 255
    ignored = np.broadcast_to((target == 255)[:, None], sample.logits.shape)
    return replace(sample, target=target, ignored=ignored)


def soft_images(rng: Generator) -> Sample:
    """Images against probabilities that are alike among neighbours."""
    blocks = np.kron(rng.normal(size=(2, 3, 3, 3)), np.ones((1, 1, 3, 3)))
    raw = np.exp(blocks + 0.1 * rng.normal(size=blocks.shape))[..., :7, :8]
    return Sample(rng.normal(size=raw.shape) * 2, raw / raw.sum(axis=1, keepdims=True))


def embedded(rng: Generator) -> Sample:
    """An embedding and scores, against labels that half of the scores agree with, and numbers to choose pixels by."""
    sample = labels(rng, classes=3, space=(5, 8))
    right = (sample.target[:, None] == np.arange(3)[:, None, None]) & (rng.random(sample.target.shape) < 0.5)[:, None]
    embedding = rng.normal(size=(2, 4, 5, 8))
    return Sample(
        (embedding, sample.logits + 6.0 * right),
        sample.target,
        {"noise": rng.random(sample.target.shape)},
        np.broadcast_to((sample.target == 255)[:, None], embedding.shape),
    )


@dataclass(frozen=True)
class Case:
    """A loss object and the inputs it is tried on."""

    loss: al.Loss
    make: Callable[[Generator], Sample]
    #: Equal to the default for all but the Lovasz and dual-task losses (see golden/README.md), and region mutual
    #: information: what few windows leave unexplained is a small difference.
    float32_tolerance: float = 1e-5

    @property
    def function(self) -> str:
        return type(self.loss).function.__name__

    @property
    def options(self) -> dict[str, Any]:
        return dict(vars(self.loss))

    def __str__(self) -> str:
        default = {f: getattr(type(self.loss), f, None) for f in self.options}
        changed = ",".join(f"{k}={v}" for k, v in self.options.items() if v != default[k])
        return f"{type(self.loss).__name__}({changed})-{self.make.__name__}".replace(" ", "")

    def reference(self, sample: Sample) -> Any:
        """Return the value by the independent reference."""
        return reference_of(self.loss)(sample.logits, sample.target, **sample.arrays)

    def with_options(self, **options: Any) -> Case:
        return replace(self, loss=replace(self.loss, **options))


def reference_of(loss: al.Loss) -> Callable[..., Any]:
    """Return the reference of a loss object, its options bound."""
    options = dict(vars(loss))
    function = reference.LOSSES[type(loss).function.__name__]
    if isinstance(loss, al.MixedLoss):
        options = {"losses": [reference_of(inner) for inner in loss.losses], "coef": loss.coef}
    return lambda logits, target, **arrays: function(logits, target, **options, **arrays)


W4 = (0.3, 1.0, 2.0, 5.0)
CASES = [
    Case(al.CrossEntropyLoss(), labels),
    Case(al.CrossEntropyLoss(W4), labels),
    Case(al.CrossEntropyLoss(W4, top_k_percent_pixels=0.3), labels),
    Case(al.CrossEntropyLoss(top_k_percent_pixels=0.9), labels),
    Case(al.CrossEntropyLoss(W4, label_smoothing=0.2), labels),
    Case(al.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1), lambda rng: labels(rng, ignore=0)),
    Case(al.CrossEntropyLoss(ignore_index=None), lambda rng: labels(rng, ignore=None)),
    Case(al.CrossEntropyLoss(W4), weighted),
    Case(al.CrossEntropyLoss(top_k_percent_pixels=0.5), weighted),
    Case(al.CrossEntropyLoss((1.0, 0.0, 2.0), label_smoothing=0.1), soft),
    Case(al.BCELoss(), binary),
    Case(al.BCELoss(), labels),
    Case(al.BCELoss("dynamic", 2.5), multilabel),
    Case(al.BCELoss("dynamic", "dynamic"), binary),
    Case(al.BCELoss([1.0, 3.0], [0.5, 2.0, 4.0]), multilabel),
    Case(al.BCELoss(np.full((1, 3, 1, 5), 0.5)), multilabel),
    Case(al.BCELoss(pos_weight="dynamic", edge_label=True), label_map),
    Case(al.DiceLoss(), labels),
    Case(al.DiceLoss(smooth=1.0, weight=W4), labels),
    Case(al.DiceLoss(smooth=0.5), soft),
    Case(al.BootstrappedCrossEntropyLoss(5, 0.5), labels),
    Case(al.BootstrappedCrossEntropyLoss(10, 50.0, W4), labels),
    Case(al.BootstrappedCrossEntropyLoss(1000, 0.5), labels),
    Case(al.OhemCrossEntropyLoss(0.3, 5), labels),
    Case(al.OhemCrossEntropyLoss(0.01, 20, weight=W4), labels),
    Case(al.OhemCrossEntropyLoss(), labels),
    Case(al.EdgeAttentionLoss(0.4), edged),
    Case(al.OhemEdgeAttentionLoss(0.2, 0.01, 10), edged),
    Case(al.OhemEdgeAttentionLoss(0.4, 0.3, 2), edged),
    Case(al.RelaxBoundaryLoss(), images),
    Case(al.RelaxBoundaryLoss(0), images),
    Case(al.RelaxBoundaryLoss(2, True, 2.0), images),
    Case(al.RelaxBoundaryLoss(3), images),
    Case(al.DualTaskLoss(), noisy, 1e-4),
    Case(al.DualTaskLoss(tau=1.0), noisy, 1e-4),
    Case(al.LovaszSoftmaxLoss(), sparse, 1e-4),
    Case(al.LovaszSoftmaxLoss(classes="all"), sparse, 1e-4),
    Case(al.LovaszSoftmaxLoss(classes=[0, 2]), labels, 1e-4),
    Case(al.LovaszSoftmaxLoss(per_image=True), sparse, 1e-4),
    Case(al.LovaszHingeLoss(), binary, 1e-4),
    Case(al.LovaszHingeLoss(per_image=True), two_scores, 1e-4),
    Case(al.L1Loss(), entries),
    Case(al.MSELoss(), entries),
    Case(al.RMILoss(radius=2, stride=1), patches, 1e-4),
    Case(al.RMILoss(stride=1, bce_weight=0.2), patches, 1e-4),
    Case(al.RMILoss(radius=2, stride=2, pool="max", bce_weight=0.0), patches, 1e-4),
    Case(al.RMILoss(radius=2, stride=2), soft_images, 1e-4),
    Case(al.PixelContrastLoss(max_views=4), embedded),
    Case(al.PixelContrastLoss(temperature=0.5, base_temperature=0.5, max_views=5, max_samples=19), embedded),
    Case(al.PixelContrastLoss(max_views=3, max_samples=2), embedded),
    Case(al.MixedLoss([al.CrossEntropyLoss(W4), al.DiceLoss(smooth=1.0)], [0.5, 1.5]), labels),
    Case(al.MixedLoss([al.OhemCrossEntropyLoss(0.3, 5), al.LovaszSoftmaxLoss()], [1.0, 0.5]), labels, 1e-4),
]

"""The loss cases that the contract suite runs over: each loss with several option sets, a line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import reference
from reference import distance

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

    @property
    def labels(self) -> np.ndarray:
        """What `ignore_index` is looked for in: an array of the call of that name where there is one, or the target."""
        return self.arrays.get("labels", self.target)

    def with_labels(self, labels: np.ndarray) -> Sample:
        """Return the sample with other labels in the same place."""
        if "labels" in self.arrays:
            return replace(self, arrays={**self.arrays, "labels": labels})
        return replace(self, target=labels)


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
    """The same with weights of the pixels, a few of them negative."""
    sample = labels(rng)
    return replace(sample, arrays={"pixel_weight": rng.random(sample.target.shape) - 0.2})


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


def probabilities(rng: Generator) -> Sample:
    """Probabilities of independent classes, against the same target as `multilabel`."""
    sample = multilabel(rng)
    return replace(sample, logits=1.0 / (1.0 + np.exp(-sample.logits)))


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


def counts(rng: Generator) -> Sample:
    """Logarithms of rates against counts, some entries ignored."""
    return _counted(rng, rng.normal(size=(2, 3, 4, 5)))


def rates(rng: Generator) -> Sample:
    """Rates against counts, some entries ignored."""
    return _counted(rng, rng.random((2, 3, 4, 5)) + 0.1)


def _counted(rng: Generator, prediction: np.ndarray) -> Sample:
    target = rng.poisson(2.0, size=prediction.shape).astype(np.float64)
    target[rng.random(target.shape) < 0.2] = 255.0
    return Sample(prediction, target, ignored=target == 255)


def measured(rng: Generator) -> Sample:
    """Means and variances against a real target, some entries ignored."""
    sample = entries(rng)
    return replace(sample, logits=(sample.logits, rng.random(sample.logits.shape) + 0.2))


def images(rng: Generator) -> Sample:
    """Images in which neighbourhoods matter: labels in squares, some pixels ignored."""
    sample = labels(rng, space=(7, 9))
    blocky = np.kron(rng.integers(0, 4, size=(2, 3, 3)), np.ones((1, 3, 3), dtype=np.int64))[:, :7, :9]
    return replace(sample, target=np.where(sample.target == 255, 255, blocky))


def regions(rng: Generator) -> Sample:
    """The same with scores that find most of the labels: components of the prediction and of the truth meet."""
    sample = images(rng)
    hit = sample.target[:, None] == np.arange(4).reshape(1, 4, 1, 1)
    return replace(sample, logits=sample.logits + 3.0 * hit)


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


def signed_distance(rng: Generator) -> Sample:
    """Scores, labels and the signed distances to the boundaries of the labels."""
    sample = labels(rng)
    return replace(sample, arrays={"distance": distance.distance_map(sample.target, 4)})


def one_signed_distance(rng: Generator) -> Sample:
    """The same of one score against 0 and 1."""
    sample = binary(rng)
    return replace(sample, arrays={"distance": distance.distance_map(sample.target, 2)[:, 1:]})


def both_distances(rng: Generator) -> Sample:
    """Scores, labels and the distances to the boundaries of the labels and of what is predicted."""
    return _with_both(labels(rng), 4)


def one_of_both_distances(rng: Generator) -> Sample:
    """The same of one score against 0 and 1."""
    return _with_both(binary(rng), 2)


def shares(rng: Generator) -> Sample:
    """The same of probabilities."""
    sample = both_distances(rng)
    odds = np.exp(sample.logits)
    return replace(sample, logits=odds / odds.sum(axis=1, keepdims=True))


def _with_both(sample: Sample, classes: int) -> Sample:
    """Return a sample with the distances of the target, and of the prediction by any reading of the scores."""
    shown = sample.logits.shape[1]
    odds = np.exp(sample.logits)
    p = odds / (odds.sum(axis=1, keepdims=True) if shown > 1 else 1.0 + odds)
    arrays = {
        "target_distance": distance.distance_map(sample.target, classes, signed=False)[:, -shown:],
        "prediction_distance": distance.prediction_distance(p, sample.target != 255),
    }
    return replace(sample, arrays=arrays)


def pointed(rng: Generator) -> Sample:
    """Scores at points of label maps, and the points: middles of pixels, by corners of the image and anywhere."""
    sample = labels(rng)
    middles = (np.moveaxis(np.indices((6, 5)), 0, -1).reshape(-1, 2) + 0.5) / (6, 5)
    chosen = np.stack([[*rng.permutation(middles)[:9], (0.01, 0.01), (0.99, 0.99), (0.01, 0.99)] for _ in range(2)])
    points = np.concatenate([chosen, rng.random((2, 6, 2))], axis=1)
    column, row = np.moveaxis(np.minimum((points * (6, 5)).astype(int), (5, 4)), -1, 0)
    ignored = sample.target[np.asarray([[0], [1]]), row, column] == 255
    logits = rng.normal(size=(2, 4, 18)) * 2
    return Sample((logits, points), sample.target, ignored=np.broadcast_to(ignored[:, None], logits.shape))


def scenes(rng: Generator) -> Sample:
    """A score of each class for each image, against label maps, which do not hold every class; one is ignored."""
    target = rng.integers(0, 3, size=(4, 3, 4)) + np.asarray([0, 1, 0, 1])[:, None, None]
    target[rng.random(target.shape) < 0.2] = 255
    target[1] = 255
    logits = rng.normal(size=(4, 4)) * 2
    return Sample(logits, target, ignored=np.broadcast_to((target == 255).all(axis=(1, 2))[:, None], logits.shape))


def detailed(rng: Generator) -> Sample:
    """One score against the details of label maps, whose sizes no stride divides."""
    target = np.kron(rng.integers(0, 4, size=(2, 3, 3)), np.ones((1, 4, 5), dtype=np.int64))[:, :10, :14]
    target[rng.random(target.shape) < 0.1] = 255
    return Sample(rng.normal(size=(2, 1, 10, 14)) * 2, target, ignored=(target == 255)[:, None])


#: What the suite must know of the makers, by name. Those whose class labels are checked ...
LABELLED = {
    "binary",
    "both_distances",
    "edged",
    "embedded",
    "images",
    "labels",
    "noisy",
    "one_of_both_distances",
    "one_signed_distance",
    "patches",
    "pointed",
    "regions",
    "scenes",
    "signed_distance",
    "sparse",
    "taught_labels",
    "two_scores",
}
#: ... those of which each pixel's neighbours matter ...
NEIGHBOURHOODS = {
    "detailed",
    "images",
    "label_map",
    "noisy",
    "patches",
    "regions",
    "soft_images",
}
#: ... and those whose target has other sizes than the logits.
OTHER_SIZES = {"pointed", "scenes"}


def taught(rng: Generator) -> Sample:
    """Scores against those of a teacher, who rules some classes out."""
    logits, teacher = rng.normal(size=(2, 4, 5, 6)) * 2, rng.normal(size=(2, 4, 5, 6)) * 2
    teacher[:, 1][rng.random((2, 5, 6)) < 0.2] = -np.inf
    return Sample(logits, teacher)


def taught_labels(rng: Generator) -> Sample:
    """The same with labels, some of them ignored."""
    sample = labels(rng)
    return replace(sample, target=rng.normal(size=sample.logits.shape) * 2, arrays={"labels": sample.target})


def taught_weighted(rng: Generator) -> Sample:
    sample = taught_labels(rng)
    return replace(sample, arrays={**sample.arrays, "pixel_weight": rng.random(sample.labels.shape)})


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
    Case(al.CrossEntropyLoss((0.3, -1.0, 2.0, -0.5), label_smoothing=0.1, top_k_percent_pixels=0.6), labels),
    Case(al.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1), lambda rng: labels(rng, ignore=0)),
    Case(al.CrossEntropyLoss(ignore_index=None), lambda rng: labels(rng, ignore=None)),
    Case(al.CrossEntropyLoss(W4), weighted),
    Case(al.CrossEntropyLoss(top_k_percent_pixels=0.5), weighted),
    Case(al.CrossEntropyLoss((1.0, 0.0, 2.0), label_smoothing=0.1), soft),
    Case(al.CrossEntropyLoss((-1.0, 0.5, -2.0)), soft),
    Case(al.BCELoss(), binary),
    Case(al.BCELoss(), labels),
    Case(al.BCELoss("dynamic", 2.5), multilabel),
    Case(al.BCELoss("dynamic", "dynamic"), binary),
    Case(al.BCELoss([1.0, 3.0], [0.5, 2.0, 4.0]), multilabel),
    Case(al.BCELoss([-1.0, 3.0], [0.5, -2.0, 4.0]), multilabel),
    Case(al.BCELoss(np.full((1, 3, 1, 5), 0.5)), multilabel),
    Case(al.BCELoss(pos_weight="dynamic", edge_label=True), label_map),
    Case(al.DiceLoss(), labels),
    Case(al.DiceLoss(smooth=1.0, weight=W4), labels),
    Case(al.DiceLoss(smooth=0.5), soft),
    Case(al.DiceLoss(activation="sigmoid", weight=(1.0, -2.0, 0.5)), multilabel),
    Case(al.DiceLoss(activation="sigmoid", batch=True), multilabel),
    Case(al.DiceLoss(activation="sigmoid", squared=True), binary),
    Case(al.DiceLoss(activation=None, smooth=1.0), probabilities),
    Case(al.JaccardLoss(), labels),
    Case(al.JaccardLoss(smooth=0.5, weight=W4, batch=True, include_background=False), labels),
    Case(al.JaccardLoss(squared=True), soft),
    Case(al.TverskyLoss(0.3, 0.7), labels),
    Case(al.TverskyLoss(0.3, 0.7, 1.0, gamma=0.75, activation="sigmoid", squared=True), labels),
    Case(al.TverskyLoss(0.3, 0.7, gamma=2.0, include_background=False), sparse),
    Case(al.GeneralizedDiceLoss(), sparse),
    Case(al.GeneralizedDiceLoss("simple", 1.0, include_background=False), sparse),
    Case(al.GeneralizedDiceLoss("uniform", activation="sigmoid", batch=True), multilabel),
    Case(al.LogCoshDiceLoss(), labels),
    Case(al.LogCoshDiceLoss(smooth=1.0, weight=(1.0, 0.0, 2.0)), soft),
    Case(al.BootstrappedCrossEntropyLoss(5, 0.5), labels),
    Case(al.BootstrappedCrossEntropyLoss(10, 50.0, W4), labels),
    Case(al.BootstrappedCrossEntropyLoss(10, 50.0, (-0.3, 1.0, -2.0, 5.0)), labels),
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
    Case(al.BoundaryLoss(), signed_distance),
    Case(al.BoundaryLoss(include_background=False, weight=W4), signed_distance),
    Case(al.BoundaryLoss(activation="sigmoid"), one_signed_distance),
    Case(al.HausdorffDTLoss(), both_distances),
    Case(al.HausdorffDTLoss(alpha=1.3, include_background=False, weight=W4), both_distances),
    Case(al.HausdorffDTLoss(activation="sigmoid"), one_of_both_distances),
    Case(al.HausdorffDTLoss(activation=None), shares),
    Case(al.FocalLoss(), labels),
    Case(al.FocalLoss(0.5, W4), labels),
    Case(al.FocalLoss(2.0, -0.5), labels),
    Case(al.FocalLoss(1.5, 0.4, label_smoothing=0.2), labels),
    Case(al.FocalLoss(3.0, (1.0, 0.0, 2.0), label_smoothing=0.1), soft),
    Case(al.SigmoidFocalLoss(), multilabel),
    Case(al.SigmoidFocalLoss(0.5, None), binary),
    Case(al.SigmoidFocalLoss(1.5, 0.7), labels),
    Case(al.AsymmetricLoss(), multilabel),
    Case(al.AsymmetricLoss(2.0, 0.0, 0.0), labels),
    Case(al.AsymmetricLoss(0.5, 0.3, 0.2), binary),
    Case(al.PolyLoss(), labels),
    Case(al.PolyLoss(-1.0, W4), labels),
    Case(al.PolyLoss(2.5, (1.0, 0.0, 2.0), label_smoothing=0.1), soft),
    Case(al.SymmetricCrossEntropyLoss(), labels),
    Case(al.SymmetricCrossEntropyLoss(0.0, 0.5, log_zero=-6.0), labels),
    Case(al.SymmetricCrossEntropyLoss(6.0, 0.3, log_zero=-1.5), soft),
    Case(al.GeneralizedCrossEntropyLoss(), labels),
    Case(al.GeneralizedCrossEntropyLoss(0.1, W4), labels),
    Case(al.GeneralizedCrossEntropyLoss(1.0, (1.0, 0.0, 2.0)), soft),
    Case(al.L1Loss(), entries),
    Case(al.MSELoss(), entries),
    Case(al.BCEDiceLoss(), binary),
    Case(al.BCEDiceLoss(0.5, 2.0, 1.0, pos_weight=3.0, squared=True), multilabel),
    Case(al.DiceCELoss(), labels),
    Case(al.DiceCELoss(0.5, 2.0, 1.0, weight=W4, label_smoothing=0.1, include_background=False), labels),
    Case(al.DiceCELoss(weight=(1.0, 0.0, 2.0)), soft),
    Case(al.SemanticConnectivityLoss(), regions),
    Case(al.SemanticConnectivityLoss(), images),
    Case(al.SemanticConnectivityLoss(max_components=2), regions),
    Case(al.PointCrossEntropyLoss(), pointed),
    Case(al.PointCrossEntropyLoss(weight=W4), pointed),
    Case(al.SECrossEntropyLoss(), scenes),
    Case(al.SECrossEntropyLoss(weight=W4), scenes),
    Case(al.DetailAggregateLoss(), detailed),
    Case(al.DetailAggregateLoss(threshold=0.0, smooth=0.0), detailed),
    Case(al.DetailAggregateLoss(threshold=0.6, smooth=10.0), detailed),
    Case(al.KLDivLoss(), taught),
    Case(al.KLDivLoss(temperature=2.5), taught_labels),
    Case(al.JSDivLoss(), taught),
    Case(al.JSDivLoss(temperature=0.5), taught_labels),
    Case(al.DistillationLoss(), taught_labels),
    Case(al.DistillationLoss(1.0, 2.0), taught),
    Case(al.DistillationLoss(0.3, 4.0), taught_labels),
    Case(al.DistillationLoss(0.0), taught_labels),
    Case(al.DistillCrossEntropyLoss(), taught),
    Case(al.DistillCrossEntropyLoss(W4, top_k_percent_pixels=0.3), taught_labels),
    Case(al.DistillCrossEntropyLoss((0.0, 1.0, 0.0, 2.0), temperature=2.0), taught_weighted),
    Case(al.HingeLoss(), binary),
    Case(al.HingeLoss(), labels),
    Case(al.HingeLoss(), multilabel),
    Case(al.SquaredHingeLoss(), binary),
    Case(al.SquaredHingeLoss(), labels),
    Case(al.SquaredHingeLoss(), multilabel),
    Case(al.MultiMarginLoss(), labels),
    Case(al.MultiMarginLoss(2, 0.5, W4), labels),
    Case(al.MultiMarginLoss(1, 2.0, W4, 0), lambda rng: labels(rng, ignore=0)),
    Case(al.SmoothL1Loss(ignore_index=255), entries),
    Case(al.SmoothL1Loss(0.3, ignore_index=255), entries),
    Case(al.SmoothL1Loss(0.0, ignore_index=255), entries),
    Case(al.HuberLoss(ignore_index=255), entries),
    Case(al.HuberLoss(2.5, ignore_index=255), entries),
    Case(al.LogCoshLoss(ignore_index=255), entries),
    Case(al.CharbonnierLoss(0.05, ignore_index=255), entries),
    Case(al.CharbonnierLoss(0.5, ignore_index=255), entries),
    Case(al.CharbonnierLoss(0.0, ignore_index=255), entries),
    Case(al.QuantileLoss(ignore_index=255), entries),
    Case(al.QuantileLoss(0.9, ignore_index=255), entries),
    Case(al.PoissonNLLLoss(ignore_index=255), counts),
    Case(al.PoissonNLLLoss(full=True, ignore_index=255), counts),
    Case(al.PoissonNLLLoss(False, eps=1e-3, ignore_index=255), rates),
    Case(al.PoissonNLLLoss(False, True, 0.1, ignore_index=255), rates),
    Case(al.GaussianNLLLoss(ignore_index=255), measured),
    Case(al.GaussianNLLLoss(True, 0.1, ignore_index=255), measured),
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


def by_class(choose: Callable[[list[Case]], Case]) -> list[Case]:
    """Return one case of each loss class."""
    grouped: dict[type, list[Case]] = {}
    for case in CASES:
        grouped.setdefault(type(case.loss), []).append(case)
    return [choose(cases) for cases in grouped.values()]


#: Where a compilation takes long: of each class the first case, or the one with the most options changed.
FIRST = by_class(lambda cases: cases[0])
MOST = by_class(lambda cases: max(cases, key=lambda c: len(str(c))))

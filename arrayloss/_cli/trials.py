"""Every loss of the package on the same scores and labels, and how far libraries differ in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import arrayloss
from arrayloss._cli.catalog import call_arrays, loss_classes, options_of
from arrayloss._cli.libraries import Backend
from arrayloss._cli.scenes import CLASSES, IGNORED

Array = Any
#: Logits, target, and arrays of the call that this form has its own of.
_Form = tuple[Any, Array, dict[str, Array]]

#: Values for options that have no default, or one that selects most of the demo's few pixels: among those that are
#: all but certain, float32 has ties that float64 has not, and libraries would rightly select differently. Small windows
#: fit into small scenes. What is ignored is so by losses of numbers too.
_OPTIONS: dict[str, Any] = {
    "losses": (arrayloss.CrossEntropyLoss(), arrayloss.DiceLoss(smooth=1.0)),
    "coef": (1.0, 1.0),
    "min_K": 512,
    "loss_th": 0.1,
    "min_kept": 512,
    "max_views": 16,
    "stride": 2,
    "ignore_index": IGNORED,
}


@dataclass(frozen=True)
class Trial:
    """A loss and NumPy arrays that fit it."""

    loss: arrayloss.Loss
    #: One array, or the tuple that some losses take.
    logits: Any
    target: Array
    #: What the call takes besides.
    arrays: dict[str, Array]


@dataclass(frozen=True)
class Outcome:
    """A loss and its gradient as computed by one library; NumPy arrays."""

    value: Array
    gradients: tuple[Array, ...]


def trials(scores: Array, labels: Array) -> list[Trial]:
    """Return a trial for each loss of the package on scores `(N, C, H, W)` of labels `(N, H, W)`."""
    return [_trial(loss, scores, labels) for loss in loss_classes()]


def _trial(loss_class: type[arrayloss.Loss], scores: Array, labels: Array) -> Trial:
    """Return a loss with the form of the inputs that it takes, which is the first that it does not refuse."""
    import numpy as np

    given = {name: value for name, value in _OPTIONS.items() if name in options_of(loss_class)}
    loss = loss_class(**given)
    taken = call_arrays(loss_class)
    # Noise that is 0 leaves a random loss with nothing to draw, and a distance of 0 is that of no boundary.
    common: dict[str, Array] = {name: np.zeros_like(scores) for name in ("noise", "prediction_distance")}
    for name in {"distance", "target_distance"} & set(taken):
        distance = arrayloss.distance_map(labels, len(CLASSES), ignore_index=IGNORED, signed=name == "distance")
        common[name] = distance.astype(scores.dtype)
    refusals = []
    for logits, target, own in _taught_forms(scores, labels) if "labels" in taken else _forms(scores, labels):
        arrays = {name: array for name, array in (common | own).items() if name in taken}
        try:
            loss(logits, target, **arrays)
        except (TypeError, ValueError) as error:
            refusals.append(error)
        else:
            return Trial(loss, logits, target, arrays)
    raise ExceptionGroup(f"{loss!r} takes none of the demo's inputs", refusals)


def _taught_forms(scores: Array, labels: Array) -> Iterator[_Form]:
    """Yield scores, those of a teacher, who is half as sure, and labels."""
    yield scores, scores / 2, {"labels": labels}


def _forms(scores: Array, labels: Array) -> Iterator[_Form]:
    """Yield logits and target in the forms that losses take."""
    import numpy as np

    yield scores, labels, {}
    edge = arrayloss.label_edges(labels, radius=1.0, ignore_index=IGNORED) == 1
    yield (scores, edge[:, None].astype(scores.dtype)), labels, {}
    # The scores as an embedding, too, with a number for each position by which to choose some.
    yield (scores, scores), labels, {"noise": np.zeros(labels.shape, dtype=scores.dtype)}
    # Losses that compare entry by entry: probabilities with what they should be.
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = odds / odds.sum(axis=1, keepdims=True)
    one_hot = (labels[:, None] == np.arange(len(CLASSES))[:, None, None]).astype(scores.dtype)
    right = np.where(labels[:, None] == IGNORED, scores.dtype.type(IGNORED), one_hot)
    yield p, right, {}
    # The same with variances.
    yield (p, p * (1 - p) + scores.dtype.type(0.01)), right, {}
    # Background against the likeliest digit.
    two = np.stack([scores[:, 0], scores[:, 1:].max(axis=1)], axis=1)
    yield two, np.where(labels == IGNORED, labels, labels > 0), {}
    yield from _head_forms(scores, labels)


def _head_forms(scores: Array, labels: Array) -> Iterator[_Form]:
    """Yield what auxiliary heads give: scores at the middles of some pixels, of whole images, and of detail."""
    import numpy as np

    images, classes, height, width = scores.shape
    row, column = (np.arange(size)[1::4] for size in (height, width))
    middles = np.stack(np.meshgrid((column + 0.5) / width, (row + 0.5) / height), axis=-1).astype(scores.dtype)
    points = np.broadcast_to(middles.reshape((1, -1, 2)), (images, row.size * column.size, 2)).copy()
    yield (scores[:, :, row[:, None], column].reshape((images, classes, -1)), points), labels, {}
    yield scores.max(axis=(2, 3)), labels, {}
    # A digit is a detail where background is unlikely.
    yield -scores[:, :1], labels, {}


def outcome(trial: Trial, backend: Backend) -> Outcome:
    """Return what a library makes of a trial."""
    several = isinstance(trial.logits, tuple)
    logits = tuple(backend.asarray(x) for x in (trial.logits if several else (trial.logits,)))
    names, arrays = list(trial.arrays), [backend.asarray(x) for x in trial.arrays.values()]

    def call(logits: tuple[Array, ...], target: Array, arrays: list[Array]) -> Any:
        graded: Callable[..., Any] = arrayloss.value_and_grad(trial.loss)
        return graded(logits if several else logits[0], target, **dict(zip(names, arrays, strict=True)))

    value, gradients = backend.compiled(call)(logits, backend.asarray(trial.target), arrays)
    gradients = gradients if several else (gradients,)
    return Outcome(backend.to_numpy(value), tuple(backend.to_numpy(g) for g in gradients))


def in_float64(trial: Trial) -> Trial:
    """Return a trial with every real array in float64."""

    def wide(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(wide, x))
        return x.astype("float64") if x.dtype.kind == "f" else x

    arrays = {name: wide(x) for name, x in trial.arrays.items()}
    return Trial(trial.loss, wide(trial.logits), wide(trial.target), arrays)


def difference(found: Array, reference: Array) -> float:
    """Return the largest difference of an array from its reference, relative to the reference's largest entry."""
    import numpy as np

    largest = float(np.max(np.abs(reference)))
    apart = float(np.max(np.abs(found - reference)))
    return apart / largest if largest else apart


def differences(found: Outcome, reference: Outcome) -> tuple[float, float]:
    """Return the `difference` of the value, and the largest one of the gradients."""
    pairs = zip(found.gradients, reference.gradients, strict=True)
    return difference(found.value, reference.value), max(difference(f, r) for f, r in pairs)

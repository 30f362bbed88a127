"""The training of the demo: the same lines on every library, and the reference they are held against.

`train` and the function `loss_and_gradients` are what a user of any library would write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import arrayloss
from arrayloss._cli.libraries import Backend
from arrayloss._cli.model import Weights, adam, backward, forward, neighbourhoods
from arrayloss._cli.scenes import Scenes, mean_iou, pixel_accuracy
from arrayloss._cli.trials import Outcome, differences

Array = Any
#: Called after each step with its number, from 1, and the loss.
Progress = Callable[[int, float], None]

LOSS = arrayloss.MixedLoss([arrayloss.CrossEntropyLoss(), arrayloss.DiceLoss(smooth=1.0)], [1.0, 1.0])
HIDDEN = 96
RATE = 0.015
BATCH = 2


@dataclass
class Run:
    """One training run: where it ran, what came out; weights as NumPy arrays."""

    backend: Backend
    weights: Weights
    curve: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """Weights in float32 that a reference run passed through, and its loss and gradients there in float64."""

    weights: Weights
    batch: Array
    outcome: Outcome


def loss_and_gradients(weights: Weights, pictures: Array, labels: Array) -> tuple[Array, Array, Weights]:
    """Return the loss of a batch, its gradient with respect to the logits, and from that the one of the weights."""
    from array_api_compat import array_namespace

    xp = array_namespace(pictures)
    x = neighbourhoods(pictures)
    logits, hidden = forward(weights, x)
    images, classes, _ = logits.shape
    value, slope = arrayloss.value_and_grad(LOSS)(xp.reshape(logits, (images, classes, *pictures.shape[1:])), labels)
    slope = xp.reshape(slope, logits.shape)
    return value, slope, backward(weights, x, hidden, slope)


def train(
    backend: Backend, start: Weights, scenes: Scenes, batches: Sequence[Array], dtype: str, progress: Progress
) -> tuple[Run, list[Checkpoint]]:
    """Train from the weights `start` on one batch after another; in float64 also record checkpoints."""
    step = backend.compiled(loss_and_gradients)
    update = backend.compiled(adam)
    pictures = scenes.pictures.astype(dtype)
    weights = [backend.asarray(w.astype(dtype)) for w in start]
    moments = [(0.0 * w, 0.0 * w) for w in weights]
    recorded = set(range(0, len(batches), max(1, len(batches) // 5))) if dtype == "float64" else set()
    checkpoints = []
    run = Run(backend, start)
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        if number in recorded:
            checkpoints.append(_checkpoint(backend, weights, scenes, batch))
        value, _, gradients = step(
            tuple(weights), backend.asarray(pictures[batch]), backend.asarray(scenes.labels[batch])
        )
        rate = RATE * (1.0 - number / len(batches))
        for i, gradient in enumerate(gradients):
            weights[i], moments[i] = update(weights[i], gradient, moments[i], number + 1, rate)
        run.curve.append(float(value))
        progress(number + 1, run.curve[-1])
    into, offset, out, base = (backend.to_numpy(w) for w in weights)
    run.weights = (into, offset, out, base)
    run.seconds = time.perf_counter() - began
    return run, checkpoints


def _checkpoint(backend: Backend, weights: Sequence[Array], scenes: Scenes, batch: Array) -> Checkpoint:
    into, offset, out, base = (backend.to_numpy(w).astype("float32") for w in weights)
    rounded = into, offset, out, base
    return Checkpoint(rounded, batch, _outcome(backend, rounded, scenes, batch, "float64"))


def _outcome(backend: Backend, weights: Weights, scenes: Scenes, batch: Array, dtype: str) -> Outcome:
    value, slope, gradients = backend.compiled(loss_and_gradients)(
        tuple(backend.asarray(w.astype(dtype)) for w in weights),
        backend.asarray(scenes.pictures[batch].astype(dtype)),
        backend.asarray(scenes.labels[batch]),
    )
    return Outcome(backend.to_numpy(value), tuple(backend.to_numpy(g) for g in (slope, *gradients)))


def disagreement(backend: Backend, scenes: Scenes, checkpoints: Sequence[Checkpoint]) -> tuple[float, float]:
    """Return the largest relative difference of values and of gradients from the reference, at its weights."""
    found = [differences(_outcome(backend, c.weights, scenes, c.batch, "float32"), c.outcome) for c in checkpoints]
    return max(value for value, _ in found), max(gradient for _, gradient in found)


def predict(run: Run, pictures: Array) -> Array:
    """Return the logits `(N, C, H, W)` of pictures, computed by the library of the run, as a NumPy array."""
    weights = tuple(run.backend.asarray(w) for w in run.weights)
    x = neighbourhoods(run.backend.asarray(pictures.astype(run.weights[0].dtype)))
    logits = run.backend.to_numpy(forward(weights, x)[0])
    return logits.reshape((*logits.shape[:2], *pictures.shape[1:]))


def score(run: Run, scenes: Scenes) -> tuple[float, float]:
    """Return pixel accuracy and mean IoU."""
    predicted = predict(run, scenes.pictures).argmax(axis=1)
    return pixel_accuracy(predicted, scenes.labels), mean_iou(predicted, scenes.labels)

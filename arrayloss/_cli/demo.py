"""`arrayloss`, the main job: one loss trains one classifier on every array library, and all losses are compared."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import arrayloss
from arrayloss._cli import progress
from arrayloss._cli.catalog import brief, loss_classes
from arrayloss._cli.libraries import Backend, open_all
from arrayloss._cli.model import initial_weights
from arrayloss._cli.scenes import CLASSES, DIGITS_PER_SCENE, IGNORED, SIZE, Scenes, digit_scenes, pixel_accuracy
from arrayloss._cli.training import BATCH, HIDDEN, LOSS, Progress, Run, disagreement, predict, score, train
from arrayloss._cli.trials import Trial, differences, in_float64, outcome, trials

Array = Any
#: Held-out scenes on which the losses are compared; the first of them is drawn.
_COMPARED = 4
_COLUMNS = ("{:<20}", "{:<8}", "{:>8}", "{:>8}", "{:>10}", "{:>10}", "{:>8}", "{:>10}", "{:>10}")


def run(args: argparse.Namespace) -> None:
    """Train on each library, compare every loss, print, and draw where asked to."""
    if args.plot:
        from arrayloss._cli import plot

        plot.check(args.plot)
    training, held_out = digit_scenes()
    backends, missing = open_all()
    with _one_blas_thread():  # of libraries that are loaded, hence not before the line above
        report = _Report(quiet=args.json)
        start = initial_weights(HIDDEN, len(CLASSES))
        batches = _batches(len(training.pictures), args.steps)
        untrained = score(Run(backends[0], start), held_out)
        report.opening(training, held_out, args.steps, untrained)

        reference, checkpoints = train(
            backends[0], start, training, batches, "float64", _progress("numpy in float64", args.steps)
        )
        report.run("numpy, float64", reference, score(reference, held_out), None)
        runs = []
        for backend in backends:
            one, _ = train(backend, start, training, batches, "float32", _progress(backend.name, args.steps))
            report.run(
                f"{backend.name} {backend.version}",
                one,
                score(one, held_out),
                disagreement(backend, training, checkpoints),
            )
            runs.append(one)

        report.missing(missing)
        report.heading(backends)
        scores = predict(runs[0], held_out.pictures[:_COMPARED])
        maps = _compare(backends, trials(scores, held_out.labels[:_COMPARED]), report)
    if args.plot:
        curves = [(f"{one.backend.name} {one.backend.version}", one.curve) for one in runs]
        progress.show("drawing")
        plot.draw(args.plot, curves, held_out.pictures[0], held_out.labels[0], scores[0].argmax(axis=0), maps)
        report.say(f"\nDrawn to {args.plot}")
    if args.json:
        print(json.dumps(report.data, indent=1))


def _compare(backends: list[Backend], compared: list[Trial], report: _Report) -> list[tuple[str, Array]]:
    """Report how far the libraries differ in each loss, and return the gradient of each on the first scene."""
    maps = []
    for number, trial in enumerate(compared):
        name = type(trial.loss).__name__
        exact = outcome(in_float64(trial), backends[0])
        apart = {}
        for backend in backends:
            progress.show("comparing", number, len(compared), f"{name}, {backend.name}")
            apart[backend.name] = differences(outcome(trial, backend), exact)
        report.loss(trial, float(exact.value), apart)
        if exact.gradients[0].ndim == 4:  # scores of points and of whole images make no picture
            maps.append((name, exact.gradients[0][0]))
    return maps


def _batches(scenes: int, steps: int, seed: int = 2) -> list[Array]:
    """Return the scenes of each step; every scene comes once before any comes again."""
    import numpy as np

    random = np.random.default_rng(seed)
    rounds = -(-steps * BATCH // (scenes - scenes % BATCH))
    drawn = [random.permutation(scenes)[: scenes - scenes % BATCH] for _ in range(rounds)]
    return list(np.concatenate(drawn).reshape((-1, BATCH))[:steps])


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep the matrix products of NumPy and torch to one thread each.

    They are too small here to gain from more, and threads that wait for a core taken by someone else, or denied by a
    container's limit, have been seen to make them thirty times slower.
    """
    # A dependency of scikit-learn, and without types.
    threadpoolctl = importlib.import_module("threadpoolctl")
    with threadpoolctl.threadpool_limits(limits=1):
        yield


def _progress(name: str, steps: int) -> Progress:
    """Return a function that keeps a terminal up to date, which is told at once that the training begins."""
    progress.show(name, 0, steps, "compiling" if name == "jax" else "")
    return lambda number, loss: progress.show(name, number, steps, f"loss {loss:.3f}")


class _Report:
    """What the demo found: printed as it is found unless quiet, and kept as plain data."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.width = max(len(loss.__name__) for loss in loss_classes())
        self.data: dict[str, Any] = {"arrayloss": arrayloss.__version__, "libraries": [], "losses": []}

    def say(self, text: str) -> None:
        progress.clear()
        if not self.quiet:
            print(text, flush=True)

    def opening(self, training: Scenes, held_out: Scenes, steps: int, untrained: tuple[float, float]) -> None:
        background = pixel_accuracy(0 * held_out.labels, held_out.labels)
        self.data |= {
            "loss": repr(LOSS),
            "steps": steps,
            "training_scenes": len(training.pictures),
            "held_out_scenes": len(held_out.pictures),
            "background_share": background,
            "untrained": {"pixel_accuracy": untrained[0], "mean_iou": untrained[1]},
        }
        self.say(
            f"arrayloss {arrayloss.__version__}: one loss, one model, one set of real images, every array library\n\n"
            f"Images  scikit-learn's handwritten digits, {DIGITS_PER_SCENE} in a scene of {SIZE} x {SIZE} pixels: "
            f"{len(training.pictures)} scenes to train on and\n"
            f"        {len(held_out.pictures)} of other digits held out; {len(CLASSES)} classes, "
            f"faint ink ignored (label {IGNORED})\n"
            f"Model   per pixel: its neighbourhood -> {HIDDEN} hidden units -> {len(CLASSES)} classes; "
            f"{steps} steps of Adam with {BATCH} scenes each\n"
            f"Loss    {' + '.join(brief(loss) for loss in LOSS.losses)}\n"
            f"Before  pixel accuracy {untrained[0]:.3f} ({background:.3f} if all is called background), "
            f"mean IoU {untrained[1]:.3f}\n\n"
            "                               loss    loss      pixel      mean             largest difference*\n"
            + self._row("library", "device", "first", "last", "accuracy", "IoU", "time", "value", "gradient")
        )

    @staticmethod
    def _row(*cells: str) -> str:
        return "  ".join(form.format(cell) for form, cell in zip(_COLUMNS, cells, strict=True)).rstrip()

    def run(self, name: str, run: Run, scores: tuple[float, float], apart: tuple[float, float] | None) -> None:
        found = {
            "name": run.backend.name,
            "version": run.backend.version,
            "device": run.backend.device,
            "dtype": str(run.weights[0].dtype),
            "loss_first": run.curve[0],
            "loss_last": run.curve[-1],
            "loss_curve": run.curve,
            "pixel_accuracy": scores[0],
            "mean_iou": scores[1],
            "seconds": round(run.seconds, 3),
        }
        if apart is None:
            self.data["reference"] = found
        else:
            self.data["libraries"].append(found | {"value_difference": apart[0], "gradient_difference": apart[1]})
        self.say(
            self._row(
                name,
                run.backend.device,
                f"{run.curve[0]:.4f}",
                f"{run.curve[-1]:.4f}",
                f"{scores[0]:.4f}",
                f"{scores[1]:.4f}",
                f"{run.seconds:.1f} s",
                *((f"{x:.1e}" for x in apart) if apart else ("reference", "")),
            )
        )

    def missing(self, missing: dict[str, str]) -> None:
        self.data["not_run"] = missing
        self.say(
            "* from NumPy in float64 at the same weights, as a share of the largest entry. "
            "Times include compiling; NumPy and torch\n  run on one thread."
        )
        for reason in missing.values():
            self.say(f"Not run: {reason}")

    def heading(self, backends: list[Backend]) -> None:
        names = "".join(f"  {b.name:^19}" for b in backends).rstrip()
        pairs = "".join(f"  {'value':>9} {'gradient':>9}" for _ in backends)
        self.say(
            f"\nEvery loss of arrayloss on the trained scores of {_COMPARED} held-out scenes, "
            "and each library's largest difference*\n"
            f"{'':<{self.width + 10}}{names}\n{'loss':<{self.width}}{'value':>10}{pairs}"
        )

    def loss(self, trial: Trial, value: float, apart: dict[str, tuple[float, float]]) -> None:
        name = type(trial.loss).__name__
        pairs = {b: {"value_difference": v, "gradient_difference": g} for b, (v, g) in apart.items()}
        self.data["losses"].append({"name": name, "loss": repr(trial.loss), "value": value, "libraries": pairs})
        cells = "".join(f"  {v:>9.1e} {g:>9.1e}" for v, g in apart.values())
        self.say(f"{name:<{self.width}}{value:>10.5f}{cells}")

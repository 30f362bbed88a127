"""Time of arrayloss beside its peers: `python benchmarks/speed.py [NAMES] [--library L] [--rounds N] [--json FILE]`.

Each library has a process of its own, in which arrayloss, its peers and bare floors run in turn.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import _run
import _tables
import _timing
import numpy as np

SHAPE, QUICK_SHAPE = (4, 19, 256, 256), (4, 3, 256, 256)
MODES = {True: "value and gradient", False: "value"}


def measure(options: argparse.Namespace, library: str) -> Iterator[_run.Record]:
    """Measure the rows of a library; one whose values or gradients disagree is given up."""
    _timing.one_core()
    import _peers

    module = importlib.import_module(f"_peers.{library}")
    for name, peers in module.PEERS.items():
        if _run.wanted(options, name):
            _run.progress("speed:", library, name)
            try:
                yield from rows(options, library, module, name, _peers.LOSSES[name], peers)
            except AssertionError as error:
                _run.progress("GIVEN UP:", library, name, error)
                yield {"library": library, "loss": name, "error": str(error)}


def rows(
    options: argparse.Namespace, library: str, module: Any, name: str, loss: Any, peers: list[Any]
) -> Iterator[_run.Record]:
    """Return a record for each peer and mode of a loss."""
    import _peers

    logits, target = _peers.inputs(loss.inputs, QUICK_SHAPE if options.quick else SHAPE)
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for gradient, mode in MODES.items():
        if gradient or any(peer.forward for peer in peers):
            ours = runs["arrayloss", mode] = module.prepare(loss.ours, logits, target, gradient)
            for peer in peers:
                runs[peer.name, mode] = (peer.prepare or module.prepare)(peer.loss, logits, target, gradient)
                assert_agree(peer.name, ours(), runs[peer.name, mode](), loss.tolerance)
    bare = floors(loss, logits) if loss.inputs != "small" else {}
    rounds, repeats = (1, 1) if options.quick else (options.rounds, loss.repeats)
    times = _timing.interleaved({**runs, **{(floor, ""): run for floor, run in bare.items()}}, rounds, repeats)
    for peer in peers:
        for goal, mode in ((peer.both, MODES[True]), (peer.forward, MODES[False])):
            if (peer.name, mode) in runs:
                ours_time, their_time = times["arrayloss", mode], times[peer.name, mode]
                yield {
                    "library": library,
                    "loss": name,
                    "mode": mode,
                    "peer": peer.name,
                    "ours": ours_time,
                    "theirs": their_time,
                    "ratio": ours_time["median"] / their_time["median"],
                    "least": ours_time["min"] / their_time["min"],
                    "target": None if options.quick else goal,
                    "floors": {floor: times[floor, ""]["median"] for floor in bare},
                }


def assert_agree(name: str, ours: tuple[Any, Any], theirs: tuple[Any, Any], tolerance: float) -> None:
    """Raise an AssertionError where values or gradients differ."""
    import _peers

    a, b = float(ours[0]), float(theirs[0])
    if not abs(a - b) <= _peers.VALUE_TOLERANCE * abs(b):
        raise AssertionError(f"{name} has the value {b}, arrayloss {a}")
    if ours[1] is not None:
        g, h = np.asarray(ours[1]), np.asarray(theirs[1])
        off = np.linalg.norm((g - h).ravel()) / np.linalg.norm(h.ravel())
        if not off <= tolerance:
            raise AssertionError(f"the gradient of {name} differs from that of arrayloss by {off:.1e} (norm-wise)")


def floors(loss: Any, logits: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what losses cannot do without, alone: reading and writing the logits, exponentials, a sort per class."""
    out = np.empty_like(logits)
    bare: dict[str, Callable[[], object]] = {
        "read + write": lambda: np.copyto(out, logits),
        "exp": lambda: np.exp(logits, out=out),
    }
    if loss.sorts:
        # Keys of 64 bits, a float's above its place, are the fastest that gives an order in NumPy, torch and XLA.
        rows = np.moveaxis(logits, 1, 0).reshape(logits.shape[1], -1)
        keys = (abs(rows).view(np.uint32).astype(np.uint64) << np.uint64(32)) | np.arange(
            rows.shape[1], dtype=np.uint64
        )
        work = np.empty_like(keys)

        def sort() -> None:
            np.copyto(work, keys)
            work.sort(axis=1)

        bare["sort"] = sort
    return bare


def import_time(repeats: int) -> _run.Record:
    """Measure an empty interpreter, and one that imports arrayloss."""
    times: dict[str, list[float]] = {"pass": [], "import arrayloss": []}
    for _ in range(repeats):
        for code, found in times.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"import": [statistics.median(found) for found in times.values()]}


def main() -> int:
    """Print the tables."""
    options = _run.options(__doc__)
    if options.job:
        return _run.answer(measure(options, *options.job))
    records = [r for library in options.library for r in _run.child(__file__, [library], _timing.KEEPING)]
    if _run.wanted(options, "import"):
        records.append(import_time(1 if options.quick else 15))
    return _run.report(options, records, _tables.speed)


if __name__ == "__main__":
    sys.exit(main())

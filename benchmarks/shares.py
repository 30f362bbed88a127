"""Soft and smoothed targets beside labels: `python benchmarks/shares.py [--library L] [--rounds N] [--json FILE]`.

Time and peak memory of cross entropy, value and gradient, whose target is labels, smoothed labels, and a share of every
class; aimed at are 1.3 times the time of labels, and 1.6 logits of memory.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator

import _run
import _tables
import _timing
import numpy as np
from memory import SHAPE as LARGE
from memory import peak
from speed import QUICK_SHAPE, SHAPE

import arrayloss as al

LOSSES = {
    "labels": al.CrossEntropyLoss(),
    "smoothed": al.CrossEntropyLoss(label_smoothing=0.1),
    "shares": al.CrossEntropyLoss(),
}


def given(name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and target."""
    logits, labels = _timing.scene(shape)
    if name != "shares":
        return logits, labels
    shares = np.random.default_rng(1).random(shape, dtype=np.float32)
    return logits, shares / shares.sum(axis=1, keepdims=True)


def measure(options: argparse.Namespace, library: str, what: str) -> Iterator[_run.Record]:
    """Measure the time of all targets in turn, or the memory of one."""
    _timing.one_core()
    prepare = importlib.import_module(f"_peers.{library}").prepare
    if what == "time":
        shape = QUICK_SHAPE if options.quick else SHAPE
        runs = {name: prepare(loss, *given(name, shape), True) for name, loss in LOSSES.items()}
        times = _timing.interleaved(runs, 1 if options.quick else options.rounds)
        yield {name: found["median"] for name, found in times.items()}
        return
    prepare(LOSSES[what], *given(what, (2, 19, 64, 128)), True)()
    logits, target = given(what, QUICK_SHAPE if options.quick else LARGE)
    yield {"logits": peak(prepare(LOSSES[what], logits, target, True)) / logits.nbytes}


def main() -> int:
    """Print the table."""
    options = _run.options(__doc__)
    if options.job:
        return _run.answer(measure(options, *options.job))
    records = []
    for library in options.library:
        _run.progress("shares:", library)
        (times,) = _run.child(__file__, [library, "time"], _timing.KEEPING)
        for name in LOSSES:
            (memory,) = _run.child(__file__, [library, name], _timing.RETURNING)
            ratio = times[name] / times["labels"]
            records.append({"library": library, "target": name, "time": times[name], "ratio": ratio, **memory})
    return _run.report(options, records, _tables.shares)


if __name__ == "__main__":
    sys.exit(main())

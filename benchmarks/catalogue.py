"""Every loss beside its best peer: `python benchmarks/catalogue.py [NAMES] [--library L] [--rounds N] [--json FILE]`.

Time and memory of value and gradient on torch, eager, and `jax.jit`, float32, one core. Of several peers the fastest
counts for time and the leanest for memory. Each library has two processes: one that times, and one that gives memory
back as it is freed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import _run
import _tables
import _timing
from memory import peak
from speed import assert_agree

LIBRARIES = ("torch", "jax")


def contestants(library: str, name: str) -> tuple[Any, dict[str, Any]]:
    """Return a loss of the catalogue, and its peers by name."""
    from _peers import catalogue

    module = importlib.import_module(f"_peers.{library}_catalogue")
    peers = dict(module.PEERS.get(name, {}))
    if catalogue.LOSSES[name][1] is not None:
        peers["textbook"] = catalogue.textbook(module.OPS, name)
    return catalogue.LOSSES[name][0], peers


def measure(options: argparse.Namespace, library: str, what: str) -> Iterator[_run.Record]:
    """Measure the time or the memory of all contestants of a library."""
    _timing.one_core()
    from _peers import catalogue

    prepare = importlib.import_module(f"_peers.{library}").prepare
    shape = catalogue.QUICK_SHAPE if options.quick else catalogue.SHAPE
    for name in catalogue.LOSSES:
        if not _run.wanted(options, name):
            continue
        _run.progress("catalogue:", library, what, name)
        loss, peers = contestants(library, name)
        given = catalogue.inputs(loss.inputs, shape)
        runs = {"arrayloss": prepare(loss.ours, *given, True)}
        try:
            for peer, function in peers.items():
                runs[peer] = prepare(function, *given, True)
                assert_agree(peer, runs["arrayloss"](), runs[peer](), loss.tolerance)
        except AssertionError as error:
            _run.progress("GIVEN UP:", library, name, error)
            yield {"library": library, "loss": name, "error": str(error)}
            continue
        if what == "time":
            times = _timing.interleaved(runs, 1 if options.quick else options.rounds, seconds=12.0)
            yield {"library": library, "loss": name, what: {run: found["median"] for run, found in times.items()}}
        else:
            size = max(a.nbytes for x in given for a in (x if isinstance(x, tuple) else (x,)))
            yield {"library": library, "loss": name, what: {key: warm_peak(run) / size for key, run in runs.items()}}


def warm_peak(run: Any) -> int:
    """Return the peak of a run after the first, whose gradient is forgotten."""
    run()
    getattr(run, "forget", lambda: None)()
    return peak(run)


def joined(records: list[_run.Record]) -> list[_run.Record]:
    """Return a record of each loss on each library, with both measures and the ratio to the best peer in each."""
    found: dict[tuple[str, str], _run.Record] = {}
    for record in records:
        found.setdefault((record["library"], record["loss"]), {}).update(record)
    for record in found.values():
        for what in ("time", "memory"):
            if what in record:
                ours, *theirs = record[what].values()
                record[f"{what} ratio"] = ours / max(min(theirs), 1e-9)
    return list(found.values())


def main() -> int:
    """Print the table."""
    options = _run.options(__doc__)
    if options.job:
        return _run.answer(measure(options, *options.job))
    records = []
    for library in LIBRARIES:
        if library in options.library:
            for what, settings in (("time", _timing.KEEPING), ("memory", _timing.RETURNING)):
                records += _run.child(__file__, [library, what], settings)
    return _run.report(options, joined(records), _tables.catalogue)


if __name__ == "__main__":
    sys.exit(main())

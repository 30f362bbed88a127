"""Peak memory of arrayloss beside its peers: `python benchmarks/memory.py [NAMES] [--library L] [--json FILE]`.

Each contestant has a process of its own, which runs once on a small input, makes the large one, and runs once on that.
What counts is the largest resident size during that run above what was resident before it. Needs Linux.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import _run
import _tables
import _timing

SHAPE, SMALL_SHAPE = (2, 19, 512, 1024), (2, 19, 64, 128)
#: What is compared, and the peaks aimed at: in units of the logits, and of the peak of the peer.
TARGETS = {
    ("numpy", "cross entropy", "textbook"): (1.55, 0.36),
    ("numpy", "Dice", "textbook"): (1.75, 0.53),
    ("numpy", "Lovasz-softmax", "textbook"): (3.1, 0.69),
    ("torch", "cross entropy", "F.cross_entropy"): (3.1, 1.02),
    ("torch", "Dice, one image", "smp"): (3.2, 0.45),
    ("torch", "Lovasz-softmax", "Berman"): (3.6, 0.55),
    ("jax", "cross entropy", "optax"): (1.25, None),
    ("jax", "Dice, all valid", "optax"): (3.25, None),
    ("jax", "Lovasz-softmax", "argsort"): (4.7, None),
}


def resident(peak: bool) -> int:
    """Return the resident size of this process, or the largest since it was last set back, in bytes."""
    key = "VmHWM:" if peak else "VmRSS:"
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith(key))


def peak(run: Callable[[], object]) -> int:
    """Return the largest resident size during a run above what was resident before it, in bytes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident
    before = resident(peak=False)
    run()
    return resident(peak=True) - before


def measure(options: argparse.Namespace, library: str, name: str, contestant: str) -> Iterator[_run.Record]:
    """Measure value and gradient of one contestant."""
    import _peers

    module = importlib.import_module(f"_peers.{library}")
    loss = _peers.LOSSES[name]
    prepare, function = module.prepare, loss.ours
    if contestant != "arrayloss":
        peer = next(peer for peer in module.PEERS[name] if peer.name == contestant)
        prepare, function = peer.prepare or prepare, peer.loss
    prepare(function, *_peers.inputs(loss.inputs, SMALL_SHAPE), True)()
    logits, target = _peers.inputs(loss.inputs, SMALL_SHAPE if options.quick else SHAPE)
    run = prepare(function, logits, target, True)
    yield {"logits": peak(run) / logits.nbytes}


def main() -> int:
    """Print the table."""
    options = _run.options(__doc__)
    if options.job:
        return _run.answer(measure(options, *options.job))
    records = []
    for (library, name, peer), targets in TARGETS.items():
        if library in options.library and _run.wanted(options, name):
            _run.progress("memory:", library, name)
            ours, theirs = (
                _run.child(__file__, [library, name, contestant], _timing.RETURNING)[0]["logits"]
                for contestant in ("arrayloss", peer)
            )
            targets = (None, None) if options.quick else targets
            records.append(
                {"library": library, "loss": name, "peer": peer, "ours": ours, "theirs": theirs, "targets": targets}
            )
    return _run.report(options, records, _tables.memory)


if __name__ == "__main__":
    sys.exit(main())

"""Time per pixel against pixels: `python benchmarks/growth.py [NAMES] [--library L] [--json FILE]`.

The exponent of a loss is the slope of log(time / bound) against log(pixels) over the four largest sizes, 2^16 to 2^22,
where fixed costs no longer count. The bound is n log n for losses that rank pixels, n for the others.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import _run
import _tables
import _timing
import numpy as np

import arrayloss as al

CLASSES = 4
POWERS, QUICK_POWERS = range(12, 23, 2), range(12, 17, 2)
#: Seconds; a size at which one run is expected to take longer is left out.
LONGEST = 10.0
#: How far an exponent may lie above 0: 64 times the pixels may then take 2.3 times as long each. Linear forms come to
#: 1.8 as their arrays leave the caches; a factor of the square root of n would be 0.5, and 8 times as long.
TOLERANCE = 0.3
LOSSES: dict[str, tuple[str, Callable[[int], Any], bool]] = {
    "cross entropy": ("scene", lambda pixels: al.CrossEntropyLoss(), False),
    "BCE": ("probabilities", lambda pixels: al.BCELoss(), False),
    "Dice": ("scene", lambda pixels: al.DiceLoss(), False),
    "Lovasz-softmax": ("scene", lambda pixels: al.LovaszSoftmaxLoss(), True),
    "Lovasz hinge": ("binary", lambda pixels: al.LovaszHingeLoss(), True),
    "OHEM": ("confident", lambda pixels: al.OhemCrossEntropyLoss(min_kept=pixels * 3 // 8), True),
}


def measure(options: argparse.Namespace, library: str) -> Iterator[_run.Record]:
    """Measure value and gradient of each loss at each size."""
    _timing.one_core()
    import _peers

    module = importlib.import_module(f"_peers.{library}")
    powers = QUICK_POWERS if options.quick else POWERS
    for name, (kind, loss, ranks) in LOSSES.items():
        if not _run.wanted(options, name):
            continue
        _run.progress("growth:", library, name)
        pixels = [2**power for power in powers]
        seconds: list[float] = []
        for n in pixels:
            if seconds and 4 * seconds[-1] > LONGEST:
                break
            side = math.isqrt(n) // (2 if kind == "binary" else 1)  # binary inputs have four times the pixels
            logits, target = _peers.inputs(kind, (1, CLASSES, side, side))
            run = module.prepare(loss(n), logits, target, True)
            repeats = 1 if options.quick else max(1, 2**15 // n)
            found = _timing.interleaved({"": run}, 1 if options.quick else options.rounds, repeats, seconds=1.0)
            seconds.append(found[""]["median"])
        exponent = fit(pixels, seconds, ranks)
        yield {
            "library": library,
            "loss": name,
            "bound": "n log n" if ranks else "n",
            "pixels": pixels[: len(seconds)],
            "seconds": seconds,
            "exponent": exponent,
            "target": None if options.quick else TOLERANCE,
        }


def fit(pixels: list[int], seconds: list[float], ranks: bool) -> float:
    """Return the exponent of a loss above its bound."""
    n, t = np.asarray(pixels[: len(seconds)][-4:]), np.asarray(seconds[-4:])
    return float(np.polyfit(np.log2(n), np.log2(t / (n * np.log2(n) if ranks else n)), 1)[0])


def main() -> int:
    """Print the table; fail where a loss grows faster than its bound."""
    options = _run.options(__doc__)
    if options.job:
        return _run.answer(measure(options, *options.job))
    records = [r for library in options.library for r in _run.child(__file__, [library], _timing.KEEPING)]
    status = _run.report(options, records, _tables.growth)
    return status or int(any(r["target"] is not None and r["exponent"] > r["target"] for r in records))


if __name__ == "__main__":
    sys.exit(main())

"""Every loss of the catalogue beside that of another checkout: `python benchmarks/versions.py PATH [NAMES]`.

Each checkout has a process, and both run a loss in turn: of a machine that is busy now and then, only ratios of what
ran within the same seconds mean anything. `git worktree add --detach PATH COMMIT` checks an earlier commit out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import _timing

HERE = Path(__file__).resolve().parents[1]
#: How many times a process runs a loss when it is asked; the least counts.
REPEATS = 3


def serve(library: str, threads: int) -> None:
    """Read names of losses, and whether with the gradient, line by line; answer each with seconds."""
    from _peers import catalogue

    if threads == 1:
        _timing.one_core()
    prepare: Any = importlib.import_module(f"_peers.{library}").prepare
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    asked, run = None, lambda: None
    for line in sys.stdin:
        if line != asked:
            asked, (name, gradient) = line, json.loads(line)
            loss = catalogue.LOSSES[name][0]
            run = prepare(loss.ours, *catalogue.inputs(loss.inputs, catalogue.SHAPE), gradient)
            run()
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        print(min(seconds), flush=True)


class Checkout:
    """The process of a checkout."""

    def __init__(self, root: Path, library: str, threads: int) -> None:
        # Its own losses, inputs and way of running them; and this file, which an earlier one need not have.
        code = (
            "import sys; sys.path.append(sys.argv[1]); import arrayloss, versions; "
            "print(arrayloss.__file__, flush=True); versions.serve(sys.argv[2], int(sys.argv[3]))"
        )
        path = os.pathsep.join(map(str, (root, root / "benchmarks")))
        alone = _timing.ONE_THREAD if threads == 1 else {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(threads)}
        self._process: Any = subprocess.Popen(
            [sys.executable, "-c", code, str(HERE / "benchmarks"), library, str(threads)],
            env={**os.environ, **alone, **_timing.KEEPING, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        if root not in Path(found := self._process.stdout.readline().strip()).parents:
            raise SystemExit(f"{root}: its arrayloss is not imported, but that of {found}")

    def seconds(self, name: str, gradient: bool) -> float:
        """Run a loss and return how long it took."""
        self._process.stdin.write(json.dumps([name, gradient]) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise SystemExit(f"{name}: its process ended with {self._process.wait()}")
        return float(answer)


def main() -> None:
    """Compare, and print a line for each loss: milliseconds of the other and of this, and the ratio."""
    # Not where this file is imported beside an earlier checkout's.
    import _run
    from _peers import catalogue

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the other checkout")
    parser.add_argument("names", nargs="*", help="losses by a part of their names (default: all)")
    parser.add_argument("--library", choices=("torch", "jax"), default="torch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    other, this = (Checkout(root, options.library, options.threads) for root in (options.path.resolve(), HERE))
    for name in catalogue.LOSSES:
        if not _run.wanted(options, name):
            continue
        for gradient in (True, False):
            rounds = [(other.seconds(name, gradient), this.seconds(name, gradient)) for _ in range(options.rounds)]
            before, now = map(statistics.median, zip(*rounds, strict=True))
            what = "value and gradient" if gradient else "value"
            print(f"{name:30}{what:20}{before * 1e3:9.2f}{now * 1e3:9.2f}  ratio {now / before:.2f}", flush=True)


if __name__ == "__main__":
    main()

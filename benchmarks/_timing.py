"""How the benchmarks time: one core, the contestants in turn, and ratios of medians taken in the same run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

# Before any library starts its threads. XLA reads its flags when it is first used.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402  (after its number of threads is set)


def one_core() -> None:
    """Keep this process on one core, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interleaved(contestants: dict[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict[str, float]:
    """Return the median process time of each contestant in seconds, each run in every round."""
    for run in contestants.values():
        for _ in range(min(repeats, 20) + 1):
            run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.process_time()
            for _ in range(repeats):
                run()
            times[name].append((time.process_time() - start) / repeats)
    return {name: statistics.median(t) for name, t in times.items()}


def scene(shape: tuple[int, int, int, int], ignored: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 logits that are partly right and blocky labels, some of them 255."""
    rng = np.random.default_rng(0)
    images, classes, height, width = shape
    blocks = rng.integers(0, classes, (images, height // 16, width // 16))
    labels = np.kron(blocks, np.ones((1, 16, 16), dtype=np.int64))
    logits = rng.normal(size=shape).astype(np.float32) * 2
    logits += (
        3
        * (labels[:, None] == np.arange(classes).reshape(1, -1, 1, 1))
        * (rng.random((images, 1, height, width)) < 0.7)
    )
    labels[rng.random(labels.shape) < ignored] = 255
    return logits, labels

"""How the benchmarks time: one core, a fixed allocator, the contestants in turn, ratios of medians of the same run."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)

#: What a measuring process starts with: libraries read their number of threads, and glibc its settings, only once.
ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
#: Memory once had is kept: page faults on fresh arrays of more than 32 MB otherwise swing ratios threefold.
KEEPING = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1:glibc.malloc.trim_threshold={2**62}"}
#: The opposite, for peaks of memory: every array is mapped, and gone once freed.
RETURNING = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={2**17}"}


def one_core() -> None:
    """Keep this process on one core, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interleaved(
    contestants: dict[Name, Callable[[], object]], rounds: int, repeats: int = 1, seconds: float = 40.0
) -> dict[Name, dict[str, float]]:
    """Return median and least process time of each contestant in seconds, each run in every round.

    After the given time no round begins but the third.
    """
    for run in contestants.values():
        for _ in range(min(repeats, 20)):
            run()
    times: dict[Name, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, run in contestants.items():
            start = time.process_time()
            for _ in range(repeats):
                run()
            times[name].append((time.process_time() - start) / repeats)
    gc.enable()
    return {name: {"median": statistics.median(found), "min": min(found)} for name, found in times.items()}


def scene(shape: tuple[int, ...], ignored: float = 0.03, margin: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 logits that are partly right and blocky labels, some of them 255.

    Every class stands in every image of at least as many blocks: losses differ in what they make of absent ones.
    """
    rng = np.random.default_rng(0)
    images, classes, height, width = shape
    blocks = np.resize(np.arange(max(classes, 2)), (images, height // 16 * (width // 16)))
    blocks = rng.permuted(blocks, axis=1).reshape(images, height // 16, width // 16)
    labels = np.kron(blocks, np.ones((1, 16, 16), dtype=np.int64))
    right = np.where(rng.random((images, 1, height, width)) < 0.7, margin, 0).astype(np.float32)
    logits = rng.standard_normal(shape, dtype=np.float32) * 2
    if classes == 1:
        logits += right * (2 * labels[:, None] - 1)
    else:
        logits += right * (labels[:, None] == np.arange(classes).reshape(1, -1, 1, 1))
    labels[rng.random(labels.shape) < ignored] = 255
    return logits, labels

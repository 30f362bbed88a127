"""Cross entropy against the peers, and the time of the import: `python benchmarks/cross_entropy.py`."""

from __future__ import annotations

# isort: off
import _timing  # sets the number of threads before anything starts them

# isort: on
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

import arrayloss as al

LOSS = al.CrossEntropyLoss()


def textbook(logits: np.ndarray, labels: np.ndarray, gradient: bool) -> tuple[Any, Any]:
    """Cross entropy in the lines of a textbook, ignoring 255."""
    valid = labels != 255
    y = np.where(valid, labels, 0)
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    losses = np.log(total) - np.take_along_axis(shifted, y[:, None], axis=1)
    count = valid.sum()
    value = (losses[:, 0] * valid).sum() / count
    if not gradient:
        return value, None
    p = e / total
    np.put_along_axis(p, y[:, None], np.take_along_axis(p, y[:, None], axis=1) - 1, axis=1)
    p *= (valid / count).astype(p.dtype)[:, None]
    return value, p


def with_optax(logits: Any, labels: Any) -> Any:
    """optax's integer-label cross entropy, with `where` for what is ignored."""
    valid = labels != 255
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, labels, 0), axis=1)
    return jnp.where(valid, losses, 0).sum() / valid.sum()


def runs(logits: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return the contestants, after holding their values and gradients against each other."""
    tensor, tensor_labels = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
    plain = tensor.detach()
    array, array_labels = jnp.asarray(logits), jnp.asarray(labels)
    jitted, jitted_optax = jax.jit(LOSS), jax.jit(with_optax)
    jitted_grad, optax_grad = jax.jit(al.value_and_grad(LOSS)), jax.jit(jax.value_and_grad(with_optax))

    def torch_both(loss: Callable[..., Any]) -> tuple[Any, Any]:
        tensor.grad = None
        value = loss(tensor, tensor_labels)
        value.backward()
        return value, tensor.grad

    def native(logits: Any, labels: Any) -> Any:
        return F.cross_entropy(logits, labels, ignore_index=255)

    both: dict[str, Callable[[], tuple[Any, Any]]] = {
        "arrayloss, torch, with gradient": lambda: torch_both(LOSS),
        "F.cross_entropy, with gradient": lambda: torch_both(native),
        "arrayloss, jax.jit, with gradient": lambda: jax.block_until_ready(jitted_grad(array, array_labels)),
        "optax, with gradient": lambda: jax.block_until_ready(optax_grad(array, array_labels)),
        "arrayloss, NumPy, with gradient": lambda: al.value_and_grad(LOSS)(logits, labels),
        "textbook NumPy, with gradient": lambda: textbook(logits, labels, True),
    }
    expected_value, expected_gradient = textbook(logits.astype(np.float64), labels, True)
    for name, run in both.items():
        value, gradient = run()
        np.testing.assert_allclose(float(value), expected_value, rtol=1e-5, err_msg=name)
        largest = np.abs(expected_gradient).max()
        np.testing.assert_allclose(np.asarray(gradient), expected_gradient, rtol=0, atol=1e-5 * largest, err_msg=name)
    forward: dict[str, Callable[[], Any]] = {
        "arrayloss, torch": lambda: al.cross_entropy_loss(plain, tensor_labels),
        "arrayloss object, torch": lambda: LOSS(plain, tensor_labels),
        "F.cross_entropy": lambda: native(plain, tensor_labels),
        "arrayloss, jax.jit": lambda: jitted(array, array_labels).block_until_ready(),
        "optax": lambda: jitted_optax(array, array_labels).block_until_ready(),
        "arrayloss, NumPy": lambda: al.cross_entropy_loss(logits, labels),
        "textbook NumPy": lambda: textbook(logits, labels, False),
    }
    return {**both, **forward}


#: What is compared with what.
PAIRS = [
    ("arrayloss, torch, with gradient", "F.cross_entropy, with gradient"),
    ("arrayloss, jax.jit, with gradient", "optax, with gradient"),
    ("arrayloss, NumPy, with gradient", "F.cross_entropy, with gradient"),
    ("arrayloss, NumPy, with gradient", "textbook NumPy, with gradient"),
    ("arrayloss, torch", "F.cross_entropy"),
    ("arrayloss object, torch", "F.cross_entropy"),
    ("arrayloss, jax.jit", "optax"),
    ("arrayloss, NumPy", "textbook NumPy"),
]


def import_time() -> tuple[float, float]:
    """Return the median time of an empty interpreter and of one that imports arrayloss, in seconds."""
    times: dict[str, list[float]] = {"pass": [], "import arrayloss": []}
    for _ in range(15):
        for code, found in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            found.append(time.perf_counter() - start)
    return statistics.median(times["pass"]), statistics.median(times["import arrayloss"])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    _timing.one_core()
    rng = np.random.default_rng(0)
    small = rng.normal(size=(32, 10)).astype(np.float32), rng.integers(0, 10, 32)
    for title, inputs, rounds, repeats in (
        ("(4, 19, 256, 256) float32, 3% ignored", _timing.scene((4, 19, 256, 256)), 15, 1),
        ("(32, 10) float32", small, 15, 200),
    ):
        times = _timing.interleaved(runs(*inputs), rounds, repeats)
        print(title)
        for ours, theirs in PAIRS:
            a, b = times[ours], times[theirs]
            print(f"  {ours:36} {a * 1e3:9.3f} ms   {theirs:32} {b * 1e3:9.3f} ms   ratio {a / b:5.2f}")
    empty, loaded = import_time()
    print(f"import arrayloss: {1e3 * (loaded - empty):.0f} ms above an empty interpreter ({1e3 * empty:.0f} ms)")


if __name__ == "__main__":
    main()

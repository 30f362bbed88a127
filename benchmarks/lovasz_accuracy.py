"""Accuracy of the Lovasz losses in float32 on 2^24 + 1 pixels, beside the usual cumsum and difference.

`python benchmarks/lovasz_accuracy.py [PIXELS]`; about 4 GB of memory. The reference is the usual form in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import arrayloss as al


def usual(errors: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """The Lovasz extension by cumulative sums and their differences, in the dtype of the errors; and its gradient.

    Tied errors share their weight, as everywhere in arrayloss: 2^24 float32 errors hold many ties.
    """
    order = np.argsort(-errors, kind="stable")
    hit = positive[order].astype(errors.dtype)
    g = hit.sum()
    jaccard = 1 - (g - np.cumsum(hit)) / (g + np.cumsum(1 - hit))
    weights = np.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    starts = np.flatnonzero(np.concatenate([[True], np.diff(errors[order]) != 0]))
    sizes = np.diff(starts, append=errors.size)
    weights = np.repeat(np.add.reduceat(weights, starts) / sizes.astype(errors.dtype), sizes)
    gradient = np.empty_like(errors)
    gradient[order] = weights
    return float(np.dot(errors[order], weights)), gradient


def main(pixels: int) -> None:
    """Print the errors of both forms against float64."""
    rng = np.random.default_rng(0)
    positive = rng.random(pixels) < 0.2
    logits = (rng.normal(size=pixels) + np.where(positive, 0.5, -0.5)).astype(np.float32)
    sign = np.where(positive, 1.0, -1.0).astype(np.float32)
    margins = 1 - logits * sign
    exact_value, exact_weights = usual(np.maximum(margins, 0).astype(np.float64), positive)
    exact = np.where(margins > 0, -sign * exact_weights, 0)
    target = positive.astype(np.int64)[None]

    def report(name: str, value: float, gradient: np.ndarray) -> None:
        error = np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
        print(f"  {name:28} value {abs(value / exact_value - 1):.1e}   gradient, norm-wise {error:.1e}")

    print(f"Lovasz hinge, float32, {pixels} pixels, relative errors against float64")
    value, weights = usual(np.maximum(margins, 0), positive)
    report("cumsum and difference", value, np.where(margins > 0, -sign * weights, 0))
    conversions: dict[str, Callable[[np.ndarray], object]] = {"NumPy": lambda x: x}
    try:
        import torch
    except ImportError:
        pass
    else:
        conversions["torch"] = torch.from_numpy
    try:
        import jax.numpy as jnp
    except ImportError:
        pass
    else:
        conversions["JAX"] = jnp.asarray
    for name, convert in conversions.items():
        value, gradient = al.value_and_grad(al.LovaszHingeLoss())(convert(logits[None, None]), convert(target))
        report(f"arrayloss, {name}", float(value), np.asarray(gradient)[0, 0])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2**24 + 1)

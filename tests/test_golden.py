"""The golden values: PaddleSeg's where it keeps to the contract, the contract's elsewhere (golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend
from test_contract import once_where_compiled

import arrayloss as al

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
#: Losses whose float32 tolerance is wider, by golden/README.md.
WIDE = ("Lovasz", "DualTask")


def build(name: str, options: dict[str, Any]) -> al.Loss:
    options = dict(options)
    if name == "MixedLoss":
        options["losses"] = [
            build(inner["type"], {k: v for k, v in inner.items() if k != "type"}) for inner in options["losses"]
        ]
    loss: al.Loss = getattr(al, name)(**options)
    return loss


def inputs(case: dict[str, Any], dtype: str) -> tuple[Any, np.ndarray, dict[str, np.ndarray], Any]:
    data = np.load(GOLDEN / case["file"])
    if case["file"] == "x_dice_float16_large.npz":
        logits = np.zeros((1, 2, 256, 256), dtype=np.float16)
        logits[0, 1] = 1
        return logits, (np.add.outer(np.arange(256), np.arange(256)) % 2)[None], {}, data
    logits = (
        tuple(data[f"logits{i}"].astype(dtype) for i in range(2)) if "logits0" in data else data["logits"].astype(dtype)
    )
    target = data["target"]
    if target.dtype.kind == "f":
        target = target.astype(dtype)
    return logits, target, {k: data[k].astype(dtype) for k in case["call_kwargs"]}, data


def compare(case: dict[str, Any], backend: Backend, dtype: str) -> None:
    """Raise where the value or the gradient of a golden case differs."""
    loss = build(case["loss"], case["kwargs"])
    logits, target, arrays, data = inputs(case, dtype)
    several = isinstance(logits, tuple)
    given = tuple(map(backend.array, logits)) if several else backend.array(logits)
    target, arrays = backend.array(target), {k: backend.array(v) for k, v in arrays.items()}
    if case["expect"] == "raises":
        if backend.reads or "label" not in case["file"]:
            with pytest.raises({"ValueError": ValueError, "TypeError": TypeError}[case["error"]]):
                loss(given, target, **arrays)
        else:
            # Where values cannot be read a wrong label makes the loss NaN.
            assert np.isnan(backend.numpy(backend.value(loss, given, target, **arrays)))
        return
    value, grad = backend.value_and_grad(loss, given, target, **arrays)
    parts = value if isinstance(value, tuple) else (value,)
    value = np.stack([backend.numpy(v) for v in parts]) if isinstance(value, tuple) else backend.numpy(value)
    rtol, atol, gtol = 1e-9, 1e-12, 1e-9
    if dtype == "float32" or "float16" in case["file"]:
        rtol = gtol = 1e-4 if case["loss"].startswith(WIDE) else 1e-5
        atol = 1e-7
    np.testing.assert_allclose(value, data["value"], rtol=rtol, atol=atol)
    if "grad" not in data and "grad0" not in data:
        return
    for i, g in enumerate(grad if several else (grad,)):
        expected = data[f"grad{i}" if several else "grad"]
        largest = np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(
            backend.numpy(g), expected, rtol=rtol if dtype == "float64" else 0, atol=max(atol, gtol * largest)
        )
    if "terms" in data:
        terms = [backend.numpy(t) for t in loss.terms(given, target)]
        np.testing.assert_allclose(terms, data["terms"], rtol=rtol, atol=atol)
    if "edges" in data:
        np.testing.assert_array_equal(backend.numpy(al.label_edges(target)), data["edges"])


def applies(case: dict[str, Any], backend: Backend, dtype: str) -> bool:
    """Whether a case is one for the backend and dtype: float16 logits come once, where the library has them."""
    return "float16" not in case["file"] or (dtype == "float32" and "float16" in backend.dtypes())


# Jitted, since JAX compiles every operation of a call on its own otherwise.
@pytest.mark.backends("numpy", "strict", "torch", "jax-jitted", "cupy", "torch-cuda")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", MANIFEST, ids=lambda case: case["file"].removesuffix(".npz"))
def test_golden(case: dict[str, Any], backend: Backend, dtype: str) -> None:
    if not applies(case, backend, dtype):
        pytest.skip("float16 logits, once, where the library has them")
    if applies(case, backend, "float64"):
        once_where_compiled(backend, dtype, "float64")  # the contract suite compiles every case in float32
    compare(case, backend, dtype)

"""The inputs that torch tests its own loss modules with: random normal weights, any rank, every option."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import arrayloss as al

torch = pytest.importorskip("torch")
#: torch's test files need it.
pytest.importorskip("expecttest")


def _inputs() -> list[Any]:
    """Return (name, options, inputs) of each call, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what its test files import
        from torch.testing._internal.common_modules import module_db
    found = []
    for module in module_db:
        if module.module_cls.__name__ not in HERE:
            continue
        torch.manual_seed(0)
        calls = module.module_inputs_func(module, device="cpu", dtype=torch.float64, requires_grad=False, training=True)
        found += [
            pytest.param(module.module_cls, call.constructor_input.kwargs, call.forward_input.args, id=f"{name}-{i}")
            for i, call in enumerate(calls)
            for name in [module.module_cls.__name__]
        ]
    return found


def _labels(loss: Any, **renamed: str) -> Any:
    def make(options: dict[str, Any], x: Any, target: Any) -> Any:
        options = {renamed.get(name, name): value for name, value in options.items()}
        return loss(**{"ignore_index": -100, **options}), x, target

    return make


def _numbers(loss: Any) -> Any:
    return lambda options, x, target: (loss(**{"ignore_index": None, **options}), x, target)


def _binary(options: dict[str, Any], x: Any, target: Any) -> Any:
    options = dict(options)
    if "weight" in options:
        # Aligned with the last axes there, of the rank of the logits here.
        options["weight"] = options["weight"].reshape(
            (1,) * (x.ndim - options["weight"].ndim) + options["weight"].shape
        )
    return al.BCELoss(**options), x, target


def _gaussian(options: dict[str, Any], x: Any, target: Any, variance: Any) -> Any:
    return al.GaussianNLLLoss(**options), (x, variance.expand(x.shape)), target


#: What each module is here, by its options and inputs.
HERE: dict[str, Any] = {
    "BCEWithLogitsLoss": _binary,
    "CrossEntropyLoss": _labels(al.CrossEntropyLoss),
    "GaussianNLLLoss": _gaussian,
    "HuberLoss": _numbers(al.HuberLoss),
    "L1Loss": _numbers(al.L1Loss),
    "MSELoss": _numbers(al.MSELoss),
    "MultiMarginLoss": _labels(al.MultiMarginLoss),
    "PoissonNLLLoss": _numbers(al.PoissonNLLLoss),
    "SmoothL1Loss": _numbers(al.SmoothL1Loss),
}


@pytest.mark.parametrize(("module", "options", "inputs"), _inputs())
def test_the_inputs_of_torch_itself(module: Any, options: dict[str, Any], inputs: tuple[Any, ...]) -> None:
    tensors = [x.clone().requires_grad_(i == 0) for i, x in enumerate(inputs)]
    there = module(**options)(*tensors)
    (expected,) = torch.autograd.grad(there.sum(), tensors[:1])
    if there.isnan().any():  # nothing is valid
        there, expected = torch.zeros_like(there), torch.zeros_like(expected)
    loss, logits, target = HERE[module.__name__](options, *inputs)
    value, gradient = al.value_and_grad(loss)(logits, target)
    # NumPy takes the same numbers, and the weights as the constructor has kept them.
    logits, target = (tuple(x.numpy() for x in logits) if isinstance(logits, tuple) else logits.numpy()), target.numpy()
    on_numpy, slope = al.value_and_grad(loss)(logits, target)
    for found, g in ((value.numpy(), gradient), (on_numpy, slope)):
        np.testing.assert_allclose(found, there.detach().numpy(), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(g[0] if isinstance(g, tuple) else g, expected.numpy(), rtol=1e-10, atol=1e-13)


def test_there_are_inputs_with_weights_of_both_signs() -> None:
    weights = [options["weight"] for _, options, _ in (p.values for p in _inputs()) if "weight" in options]
    assert sum(bool((w < 0).any()) for w in weights) > 20

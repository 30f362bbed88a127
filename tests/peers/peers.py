"""What the tests beside other libraries share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def by_torch(loss: Callable[..., Any], *arrays: np.ndarray, wanted: int = 1) -> tuple[np.ndarray, ...]:
    """Return the value of a function of tensors, and the gradients of its sum to the first `wanted` of them."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(x, requires_grad=i < wanted) for i, x in enumerate(arrays)]
    value = loss(*tensors)
    return value.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(value.sum(), tensors[:wanted]))

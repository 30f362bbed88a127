"""What a user's type checker makes of a loss of the user's own, and of losses handed to functions.

Checked by `nox -s typing` against the installed package; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, TypeVar, assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

import arrayloss as al

A = TypeVar("A")
Images = npt.NDArray[np.float32]


def scaled_loss(logits: A, target: Any, *, factor: float = 2.0, ignore_index: int | None = 255) -> A:
    raise NotImplementedError


class ScaledLoss(al.Loss, function=scaled_loss):
    factor: float = 2.0
    _: KW_ONLY
    ignore_index: int | None = 255


def own_options(logits: torch.Tensor, target: torch.Tensor) -> None:
    assert_type(ScaledLoss(3.0, ignore_index=None).factor, float)
    assert_type(ScaledLoss()(logits, target), torch.Tensor)
    ScaledLoss("3")  # type: ignore[arg-type]  # an option of a wrong kind is an error
    ScaledLoss(3.0, 255)  # type: ignore[call-arg]  # an option by keyword alone
    ScaledLoss().factor = 1.0  # type: ignore[misc]  # a loss is immutable


def mixtures(logits: jax.Array, target: jax.Array) -> None:
    criterion = al.MixedLoss([al.CrossEntropyLoss(), ScaledLoss(), al.dice_loss], [1.0, 0.5, 0.5])
    assert_type(criterion(logits, target), jax.Array)
    al.MixedLoss([al.CrossEntropyLoss()])  # type: ignore[call-arg]  # an option without default is missing


def several_logits(scores: Images, edge: Images, target: npt.NDArray[np.uint8]) -> None:
    assert_type(al.EdgeAttentionLoss()((scores, edge), target), Images)


def step(criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    raise NotImplementedError


def losses_as_callables() -> None:
    step(al.CrossEntropyLoss())
    step(al.lovasz_softmax_loss)
    jax.jit(jax.value_and_grad(al.DiceLoss()))
    torch.compile(al.OhemCrossEntropyLoss(), fullgraph=True)

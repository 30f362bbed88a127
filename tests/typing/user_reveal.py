"""What a user's type checker makes of a loss: the result is an array of the library of the arguments.

Checked by `nox -s typing` against the installed package; nothing here runs.
"""

from __future__ import annotations

from typing import assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

import arrayloss as al


def numpy_user(logits: npt.NDArray[np.float32], target: npt.NDArray[np.int64]) -> None:
    assert_type(al.dice_loss(logits, target), npt.NDArray[np.float32])
    assert_type(al.DiceLoss(smooth=1.0)(logits, target), npt.NDArray[np.float32])
    assert_type(
        al.value_and_grad(al.DiceLoss())(logits, target), tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    )


def torch_user(logits: torch.Tensor, target: torch.Tensor) -> None:
    assert_type(al.dice_loss(logits, target), torch.Tensor)
    assert_type(al.DiceLoss(smooth=1.0)(logits, target), torch.Tensor)
    assert_type(al.value_and_grad(al.DiceLoss())(logits, target), tuple[torch.Tensor, torch.Tensor])


def jax_user(logits: jax.Array, target: jax.Array) -> None:
    assert_type(al.dice_loss(logits, target), jax.Array)
    assert_type(al.DiceLoss(smooth=1.0)(logits, target), jax.Array)
    assert_type(al.value_and_grad(al.DiceLoss())(logits, target), tuple[jax.Array, jax.Array])


def options_are_known() -> None:
    assert_type(al.DiceLoss(255, 1.0).smooth, float)
    al.DiceLoss(smoth=1.0)  # type: ignore[call-arg]  # a misspelt option is an error

"""Focal and robust cross entropies beside other libraries: values and gradients of the same definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import pytest
from peers import by_torch

import arrayloss as al

GAMMAS = [0.5, 1.0, 2.0, 3.5]


def soft_entries(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets in [0, 1], many of them 0 or 1, none ignored."""
    target = np.clip(rng.uniform(-1.0, 2.0, size=(2, 3, 4, 5)), 0.0, 1.0)
    return rng.normal(size=target.shape) * 4, target


def by_jax(loss: Callable[..., Any], logits: np.ndarray, target: np.ndarray) -> tuple[Any, np.ndarray]:
    jax = pytest.importorskip("jax")
    x, y = jax.numpy.asarray(logits), jax.numpy.asarray(target)
    return np.asarray(loss(x, y)), np.asarray(jax.grad(lambda x: loss(x, y).sum())(x))


def agree(
    loss: Any, logits: np.ndarray, target: np.ndarray, peer: tuple[Any, np.ndarray], close: float = 1e-11
) -> None:
    value, gradient = al.value_and_grad(loss)(logits, target)
    for found, expected in ((value, peer[0]), (gradient, peer[1])):
        np.testing.assert_allclose(found, expected, rtol=0, atol=close * np.abs(expected).max())


def torchvision_sigmoid_focal(x: Any, t: Any, alpha: float | None, gamma: float) -> Any:
    """The formula of torchvision.ops.sigmoid_focal_loss, whose binary fits one build of torch only."""
    torch = pytest.importorskip("torch")
    p = torch.sigmoid(x)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss = entropy * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    return loss if alpha is None else loss * (alpha * t + (1 - alpha) * (1 - t))


@pytest.mark.parametrize("gamma", [0.0, *GAMMAS])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_focal_by_the_formula_of_torchvision(
    alpha: float | None, gamma: float, rng: np.random.Generator
) -> None:
    logits, target = soft_entries(rng)
    peer = by_torch(lambda x, t: torchvision_sigmoid_focal(x, t, alpha, gamma), logits, target)
    agree(al.SigmoidFocalLoss(gamma, alpha, reduction="none"), logits, target, peer)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_focal_of_optax(alpha: float | None, gamma: float, rng: np.random.Generator) -> None:
    optax = pytest.importorskip("optax")
    logits, target = soft_entries(rng)
    peer = by_jax(lambda x, t: optax.sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma), logits, target)
    agree(al.SigmoidFocalLoss(gamma, alpha, reduction="none"), logits, target, peer)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_focal_of_kornia(gamma: float, rng: np.random.Generator) -> None:
    # Targets of 0 and 1 alone: between them kornia blends the two terms, each with a factor of its own.
    losses = pytest.importorskip("kornia.losses")
    logits, target = soft_entries(rng)
    target = np.round(target)
    peer = by_torch(
        lambda x, t: losses.binary_focal_loss_with_logits(x, t, alpha=0.25, gamma=gamma, reduction="mean"),
        logits,
        target,
    )
    agree(al.SigmoidFocalLoss(gamma), logits, target, peer)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_of_monai(gamma: float, rng: np.random.Generator) -> None:
    # MONAI divides by the number of entries, of which all but one in each position are 0, and computes in float32.
    losses = pytest.importorskip("monai.losses")
    sample = cases.labels(rng, ignore=None)
    monai = losses.FocalLoss(gamma=gamma, alpha=cases.W4, use_softmax=True, to_onehot_y=True)
    peer = by_torch(lambda x, y: monai(x, y[:, None]), sample.logits, sample.target)
    weight = np.asarray(cases.W4)[sample.target].sum() / sample.logits.size
    scaled = peer[0] / weight, peer[1] / weight
    agree(al.FocalLoss(gamma, cases.W4), sample.logits, sample.target, scaled, 2e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_of_kornia(gamma: float, rng: np.random.Generator) -> None:
    # "none" of kornia has an entry for each class, and its mean counts all of them. No alpha: kornia's is for one class
    # against the others.
    torch, losses = pytest.importorskip("torch"), pytest.importorskip("kornia.losses")
    sample = cases.labels(rng)
    weights = torch.tensor(cases.W4, dtype=torch.float64)
    peer = by_torch(
        lambda x, y: losses.focal_loss(x, y, None, gamma, "none", weight=weights, ignore_index=255).sum(1),
        sample.logits,
        sample.target,
    )
    agree(al.FocalLoss(gamma, cases.W4, reduction="none"), sample.logits, sample.target, peer)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0, 2.0])
def test_poly_of_optax(epsilon: float, rng: np.random.Generator) -> None:
    optax = pytest.importorskip("optax")
    sample = cases.soft(rng)
    peer = by_jax(
        lambda x, t: optax.losses.poly_loss_cross_entropy(x, t, epsilon=epsilon, axis=1), sample.logits, sample.target
    )
    agree(al.PolyLoss(epsilon, reduction="none"), sample.logits, sample.target, peer)


def authors_asymmetric(x: Any, t: Any, gamma_neg: float, gamma_pos: float, clip: float) -> Any:
    """The formula of the authors' code, for targets of 0 and 1."""
    torch = pytest.importorskip("torch")
    p = torch.sigmoid(x)
    n = torch.clamp(1 - p + clip, max=1)
    entropy = t * torch.log(p.clamp(min=1e-8)) + (1 - t) * torch.log(n.clamp(min=1e-8))
    return -entropy * (1 - p * t - n * (1 - t)) ** (gamma_pos * t + gamma_neg * (1 - t))


@pytest.mark.parametrize(("gamma_neg", "gamma_pos", "clip"), [(4.0, 1.0, 0.05), (2.0, 2.0, 0.0), (3.0, 1.0, 0.3)])
def test_asymmetric_by_the_formula_of_its_authors(
    gamma_neg: float, gamma_pos: float, clip: float, rng: np.random.Generator
) -> None:
    logits, target = soft_entries(rng)
    target = np.round(target)
    peer = by_torch(lambda x, t: authors_asymmetric(x, t, gamma_neg, gamma_pos, clip), logits, target)
    agree(al.AsymmetricLoss(gamma_neg, gamma_pos, clip, reduction="none"), logits, target, peer)


def test_symmetric_by_the_formula_of_its_authors(rng: np.random.Generator) -> None:
    # They cut targets off at 1e-4, and probabilities at 1e-7, which none is below here.
    torch = pytest.importorskip("torch")
    sample = cases.labels(rng, ignore=None)

    def loss(x: Any, y: Any) -> Any:
        p = x.softmax(1)
        t = torch.nn.functional.one_hot(y, x.shape[1]).movedim(-1, 1).to(x.dtype)
        reverse = -(p * t.clamp(min=1e-4).log()).sum(1)
        return 0.1 * torch.nn.functional.cross_entropy(x, y, reduction="none") + reverse

    peer = by_torch(loss, sample.logits, sample.target)
    symmetric = al.SymmetricCrossEntropyLoss(log_zero=float(np.log(1e-4)), reduction="none")
    agree(symmetric, sample.logits, sample.target, peer)

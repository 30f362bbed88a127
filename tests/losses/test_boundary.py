"""What the boundary losses need beyond the contract suite: distances, neighbourhoods and noise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from backends import Backend
from reference.boundary import dual_task_loss as reference_loss

import arrayloss as al


def distance_to_another_label(labels: np.ndarray, ignore: int) -> np.ndarray:
    """Euclidean distance of each pixel to the nearest one with another label, or beyond the image; by all pairs."""
    height, width = labels.shape
    padded = np.full((height + 2 * 8, width + 2 * 8), -1)
    padded[8:-8, 8:-8] = labels
    rows, columns = np.indices(padded.shape)
    distance = np.empty(labels.shape)
    for i, j in np.ndindex(labels.shape):
        other = (padded != labels[i, j]) & (padded != ignore)
        distance[i, j] = np.hypot(rows - i - 8, columns - j - 8)[other].min()
    return distance


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3])
@pytest.mark.parametrize("ignore", [255, 0])
def test_label_edges_are_within_a_euclidean_distance(
    radius: float, ignore: int, backend: Backend, rng: np.random.Generator
) -> None:
    if backend.compiles and radius not in (0, 2):
        pytest.skip("compiled for two radii")
    target = np.kron(rng.integers(0, 3, size=(2, 2, 3)), np.ones((1, 12, 11), dtype=np.int64))
    target[rng.random(target.shape) < 0.05] = ignore
    found = backend.numpy(al.label_edges(backend.array(target), radius=radius, ignore_index=ignore))
    for labels, edges in zip(target, found, strict=True):
        near = distance_to_another_label(labels, ignore) <= radius
        np.testing.assert_array_equal(edges, np.where(labels == ignore, ignore, near))
        assert radius == 0 or 0 < near.mean() < 1


def generator(backend: Backend, seed: int) -> Any:
    if backend.name == "torch":
        import torch

        return torch.Generator().manual_seed(seed)
    if backend.needs == "jax":
        import jax

        return jax.random.key(seed)
    return np.random.default_rng(seed)


@pytest.mark.backends("numpy", "strict", "torch", "jax")
def test_dual_task_draws_gumbel_noise(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(1, 3, 12, 12)), rng.integers(0, 3, size=(1, 12, 12))
    given = backend.array(logits), backend.array(target)
    loss = al.DualTaskLoss()
    one, same, other = (float(loss(*given, rng=generator(backend, seed))) for seed in (1, 1, 2))
    assert one == same != other
    assert one != float(loss(*given, noise=0))
    _, gradient = al.value_and_grad(loss)(*given, rng=generator(backend, 1))
    assert np.abs(backend.numpy(gradient)).max() > 0
    # The mean over draws is that of the reference with NumPy's Gumbel samples.
    draws = [float(loss(*given, rng=generator(backend, seed))) for seed in range(40)]
    expected = [reference_loss(logits, target, noise=rng.gumbel(size=logits.shape)) for _ in range(40)]
    assert abs(np.mean(draws) - np.mean(expected)) < 4 * np.std(expected) / np.sqrt(20)


def test_dual_task_without_noise_or_generator(backend: Backend, rng: np.random.Generator) -> None:
    given = backend.array(rng.normal(size=(1, 3, 5, 5))), backend.array(rng.integers(0, 3, size=(1, 5, 5)))
    if backend.needs == "jax":
        with pytest.raises(ValueError, match=r"^dual_task_loss: JAX has no default generator: expected rng="):
            al.dual_task_loss(*given)
    else:
        assert float(al.dual_task_loss(*given)) != float(al.dual_task_loss(*given))
    with pytest.raises(TypeError, match=r"^dual_task_loss: rng is a str, expected a"):
        al.dual_task_loss(*given, rng="seed")
    with pytest.raises(ValueError, match=r"^dual_task_loss: noise and rng are both given"):
        al.dual_task_loss(*given, rng=generator(backend, 0), noise=0)
    with pytest.raises(ValueError, match=r"^dual_task_loss: noise is 1, expected 0 or an array"):
        al.dual_task_loss(*given, noise=1)


@pytest.mark.parametrize("shape", [(1, 3, 2, 5), (1, 3, 5, 2), (3, 5), (2, 3, 4)])
def test_losses_of_images_need_images(shape: tuple[int, ...], backend: Backend) -> None:
    given = backend.array(np.zeros(shape)), backend.array(np.zeros((shape[0], *shape[2:]), dtype=np.int64))
    with pytest.raises(ValueError, match=r"^dual_task_loss: logits has shape .*expected images"):
        al.dual_task_loss(*given, noise=0)
    if len(shape) != 4:
        with pytest.raises(ValueError, match=r"^relax_boundary_loss: logits has shape .*expected images"):
            al.relax_boundary_loss(*given)


@pytest.mark.parametrize(
    ("loss", "kept"),
    [
        (al.OhemCrossEntropyLoss(0.0, 0), 0),
        (al.OhemCrossEntropyLoss(0.0, 1), 1),
        (al.OhemCrossEntropyLoss(0.0, 7), 7),
        (al.OhemCrossEntropyLoss(0.0, 8), 8),
        (al.OhemCrossEntropyLoss(0.0, 12), 8),
        (al.OhemCrossEntropyLoss(0.0, 10**9), 8),
        (al.OhemCrossEntropyLoss(1.0, 0), 8),
        (al.CrossEntropyLoss(top_k_percent_pixels=0.0), 0),
        (al.CrossEntropyLoss(top_k_percent_pixels=0.1), 1),
        (al.CrossEntropyLoss(top_k_percent_pixels=0.99), 8),
        (al.BootstrappedCrossEntropyLoss(0, 1e9), 0),
        (al.BootstrappedCrossEntropyLoss(1, 1e9), 1),
        (al.BootstrappedCrossEntropyLoss(3, -1.0), 8),
        (al.BootstrappedCrossEntropyLoss(100, 0.0), 8),
    ],
    ids=repr,
)
def test_how_many_pixels_are_selected(loss: al.Loss, kept: int, backend: Backend, rng: np.random.Generator) -> None:
    """Two images of eight pixels, of which one is wholly ignored."""
    from dataclasses import replace

    target = rng.integers(0, 3, size=(2, 8))
    target[1] = 255
    given = backend.array(rng.normal(size=(2, 3, 8))), backend.array(target)
    found = backend.numpy(replace(loss, reduction="none")(*given))
    assert np.count_nonzero(found) == kept
    assert (found[1] == 0).all()
    assert np.isfinite(backend.numpy(backend.value(loss, *given)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_dual_task_of_an_empty_batch(reduction: str, backend: Backend) -> None:
    """There is no largest magnitude to divide by, and nothing to divide."""
    if backend.name == "torch-compiled":
        pytest.skip("torch compiles no empty graph inputs")
    logits = backend.array(np.zeros((0, 3, 4, 5)))
    target = backend.array(np.zeros((0, 4, 5), dtype=np.int64))
    loss = partial(al.dual_task_loss, reduction=reduction, noise=0)
    value, gradient = backend.value_and_grad(loss, logits, target)
    assert (backend.numpy(value) == 0).all()
    assert tuple(gradient.shape) == (0, 3, 4, 5)


@pytest.mark.variants
def test_relaxed_classes_that_are_ruled_out(backend: Backend, rng: np.random.Generator) -> None:
    """Where all classes near a pixel have a score of -inf the loss is infinite and the gradient finite."""
    target = np.repeat([[0, 0, 0, 2, 2, 2]], 4, axis=0)[None]
    logits = rng.normal(size=(1, 3, 4, 6))
    logits[:, 0, 1, 0] = -np.inf  # of the label alone
    logits[:, [0, 2], 2, 2:4] = -np.inf  # of the label and what is next to it
    each = al.RelaxBoundaryLoss(reduction="none")
    value, gradient = map(backend.numpy, backend.value_and_grad(each, backend.array(logits), backend.array(target)))
    infinite = np.zeros(target.shape, dtype=bool)
    infinite[0, 1, 0] = infinite[0, 2, 2:4] = True
    np.testing.assert_array_equal(value == np.inf, infinite)
    assert np.isfinite(value[~infinite]).all()
    # What is left is pushed away, as by cross entropy.
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient[:, :, 2, 2:4], p[:, :, 2, 2:4], rtol=1e-12)
    assert np.isfinite(gradient).all()

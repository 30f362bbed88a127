"""What the losses of relations between pixels need beyond the contract suite."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import Case, embedded, patches
from reference.relation import pixel_contrast_loss as reference_contrast
from reference.relation import rmi_loss as reference_rmi
from test_boundary import generator

import arrayloss as al

# Region mutual information ------------------------------------------------------------------------------------------


def curved(rng: np.random.Generator, classes: int, size: int) -> np.ndarray:
    """Return labels of two images in smooth shapes, as masks are: neighbours are nearly always alike."""
    coarse = rng.normal(size=(2, classes, 6, 6))
    fine = np.linspace(0, 5 - 1e-9, size)
    i, a = fine.astype(int), fine % 1
    rows = coarse[:, :, i] * (1 - a)[:, None] + coarse[:, :, i + 1] * a[:, None]
    return (rows[..., i] * (1 - a) + rows[..., i + 1] * a).argmax(axis=1)


def test_one_cell_is_a_variance(backend: Backend) -> None:
    """With windows of one pixel the covariances are numbers: half the logarithm of what is left of a variance."""
    logits, target = np.asarray([[[[0.0, 1.0], [2.0, -1.0]]]]), np.asarray([[[[0.0, 1.0], [1.0, 0.0]]]])
    p, y = 1 / (1 + np.exp(-logits)), target
    alpha = 5e-4 / 4
    left = y.var() - ((y - y.mean()) * (p - p.mean())).mean() ** 2 / (p.var() + alpha)
    loss = al.RMILoss(radius=1, stride=1, bce_weight=0.0)
    value = backend.numpy(backend.value(loss, backend.array(logits), backend.array(target)))
    np.testing.assert_allclose(value, 0.5 * np.log(left + alpha), rtol=1e-12)


def test_the_cross_entropy_alone(backend: Backend, rng: np.random.Generator) -> None:
    """With the whole weight on it, it is BCELoss of each image, whatever the other options say."""
    sample = patches(rng)
    given = backend.array(sample.logits), backend.array(sample.target)
    found = backend.numpy(al.rmi_loss(*given, bce_weight=1.0, stride=1, radius=2))
    each = [al.bce_loss(x[None], y[None]) for x, y in zip(sample.logits, sample.target, strict=True)]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-12)


def test_windows_with_an_ignored_pixel_do_not_count(backend: Backend, rng: np.random.Generator) -> None:
    """An image of which one half is ignored is the other half, up to the windows on the border."""
    logits, target = rng.normal(size=(1, 3, 12, 20)), rng.integers(0, 3, size=(1, 12, 20))
    half = target.copy()
    half[..., 12:] = 255
    logits[..., 12:] = np.nan
    for loss in (al.RMILoss(radius=2, stride=2), al.RMILoss(radius=3, stride=3, pool="max"), al.RMILoss(stride=1)):
        value, gradient = backend.value_and_grad(loss, backend.array(logits), backend.array(half))
        left = backend.array(logits[..., :12].copy()), backend.array(target[..., :12].copy())
        expected, slope = backend.value_and_grad(loss, *left)
        np.testing.assert_allclose(backend.numpy(value), backend.numpy(expected), rtol=1e-12)
        np.testing.assert_allclose(backend.numpy(gradient)[..., :12], backend.numpy(slope), rtol=1e-9, atol=1e-15)
        assert (backend.numpy(gradient)[..., 12:] == 0).all()


def test_an_image_without_a_whole_window_has_the_cross_entropy_alone(
    backend: Backend, rng: np.random.Generator
) -> None:
    logits, target = rng.normal(size=(2, 3, 6, 6)), rng.integers(0, 3, size=(2, 6, 6))
    target[0, ::2] = 255
    loss = al.RMILoss(radius=2, stride=1, reduction="none")
    value, gradient = map(backend.numpy, backend.value_and_grad(loss, backend.array(logits), backend.array(target)))
    alone = backend.numpy(backend.value(replace(loss, bce_weight=1.0), backend.array(logits), backend.array(target)))
    np.testing.assert_allclose(value[0], 0.5 * alone[0], rtol=1e-12)
    assert (value[1] < 0.5 * alone[1]).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("scores", ["zero", "random", "trained", "certain"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_images(scores: str, dtype: str, backend: Backend, rng: np.random.Generator) -> None:
    """Sizes at which libraries take their fast ways; in float32 too, though the matrices are all but singular."""
    if backend.compiles and scores in ("zero", "certain"):
        pytest.skip("compiled for the others")
    target = curved(rng, 4, 50)
    sign = 2.0 * (target[:, None] == np.arange(4)[:, None, None]) - 1.0
    noise = rng.normal(size=sign.shape)
    logits = {"zero": 0.0 * sign, "random": noise, "trained": 3.0 * sign + noise, "certain": 1e4 * sign}[scores]
    target[:, :, 40:43] = 255
    loss = al.RMILoss(radius=3, stride=2, bce_weight=0.25)
    if dtype not in backend.dtypes():
        pytest.skip(f"{backend.name} has no {dtype}")
    given = backend.array(logits.astype(dtype)), backend.array(target)
    value, gradient = map(backend.numpy, backend.value_and_grad(loss, *given))
    wide = logits.astype(dtype).astype(np.float64)
    np.testing.assert_allclose(
        value, reference_rmi(wide, target, **vars(loss)), rtol=1e-10 if dtype == "float64" else 1e-5
    )
    _, expected = al.value_and_grad(loss)(wide, target)
    close = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=close * np.abs(expected).max() + 1e-12)


@pytest.mark.backends("torch")
def test_large_images_twice_and_under_autocast(backend: Backend, rng: np.random.Generator) -> None:
    """The rule of the fast way gives way to what can be differentiated again, and no product is taken in bfloat16."""
    import torch

    target, loss = backend.array(curved(rng, 4, 50)), al.RMILoss(radius=2, stride=1)
    logits = torch.tensor(rng.normal(size=(2, 4, 50, 50)), dtype=torch.float32)
    value, gradient = al.value_and_grad(loss)(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = al.value_and_grad(loss)(logits, target)
    assert torch.equal(inside[0], value)
    assert torch.equal(inside[1], gradient)
    x = logits.double().requires_grad_()
    v = torch.tensor(rng.normal(size=x.shape))
    (first,) = torch.autograd.grad(loss(x, target), x, create_graph=True)
    (found,) = torch.autograd.grad((first * v).sum(), x)
    ahead, behind = (al.value_and_grad(loss)((x + s * v).detach(), target)[1] for s in (1e-5, -1e-5))
    expected = (ahead - behind) / 2e-5
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.backends("torch", "jax")
def test_the_gradient_of_a_learned_target(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(1, 2, 6, 6)), rng.uniform(0.1, 0.9, size=(1, 2, 6, 6))
    loss = al.RMILoss(radius=2, stride=1)
    v, step = rng.normal(size=target.shape), 1e-5

    def swapped(t: Any, x: Any) -> Any:
        return loss(x, t)

    _, gradient = backend.value_and_grad(swapped, backend.array(target), backend.array(logits))
    values = [reference_rmi(logits, target + s * v, **vars(loss)) for s in (step, -step)]
    np.testing.assert_allclose((backend.numpy(gradient) * v).sum(), (values[0] - values[1]) / (2 * step), rtol=1e-7)


def test_images_too_small_for_a_window() -> None:
    logits, target = np.zeros((1, 2, 9, 8)), np.zeros((1, 9, 8), dtype=np.int64)
    with pytest.raises(
        ValueError, match=r"^rmi_loss: logits has shape \(1, 2, 9, 8\), expected images of at least 9 x 9"
    ):
        al.rmi_loss(logits, target)
    with pytest.raises(ValueError, match=r"^rmi_loss: logits has shape \(1, 2, 9\), expected images"):
        al.rmi_loss(logits[..., 0], target[..., 0])
    assert np.isfinite(al.rmi_loss(logits, target, stride=2))


# Pixel contrast -----------------------------------------------------------------------------------------------------


def scene(classes: list[int], wrong: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of one image, so many pixels of each class, and scores that are wrong on so many of them."""
    labels = np.repeat(np.arange(len(classes)), classes)
    scores = 1.0 * (labels == np.arange(len(classes))[:, None])
    for c, count in enumerate(wrong):
        first = np.flatnonzero(labels == c)[:count]
        scores[:, first] = 0.0
        scores[(c + 1) % len(classes), first] = 1.0
    return scores[None], labels[None]


@pytest.mark.parametrize(
    ("classes", "wrong", "views", "samples", "expected"),
    [
        # Of 12 pixels: half hard and half easy, and what one kind lacks from the other.
        ([12, 12], [6, 6], 4, 100, [(2, 2), (2, 2)]),
        ([12, 12], [6, 6], 5, 100, [(2, 3), (2, 3)]),
        ([12, 12], [1, 11], 6, 100, [(1, 5), (5, 1)]),
        ([12, 12], [0, 12], 6, 100, [(0, 6), (6, 0)]),
        ([12, 12], [6, 6], 12, 100, [(6, 6), (6, 6)]),
        # max_samples divided by the pairs of class and image, those with too few pixels not among them.
        ([12, 12], [6, 6], 12, 11, [(2, 3), (2, 3)]),
        ([12, 12, 3], [6, 6, 1], 4, 6, [(1, 2), (1, 2), (0, 0)]),
        ([12, 12], [6, 6], 4, 4, [(1, 1), (1, 1)]),
        ([3, 3], [1, 1], 4, 100, [(0, 0), (0, 0)]),
    ],
)
def test_which_pixels_are_anchors(
    classes: list[int],
    wrong: list[int],
    views: int,
    samples: int,
    expected: list[tuple[int, int]],
    backend: Backend,
    rng: np.random.Generator,
) -> None:
    if backend.compiles and samples not in (6, 11):
        pytest.skip("compiled for two of them")
    scores, target = scene(classes, wrong)
    embedding, noise = rng.normal(size=(1, 3, target.size)), rng.random(target.shape)
    loss = al.PixelContrastLoss(max_views=views, max_samples=samples, reduction="none")
    given = (backend.array(embedding), backend.array(scores)), backend.array(target)
    value, (gradient, none) = backend.value_and_grad(loss, *given, noise=backend.array(noise))
    assert (backend.numpy(none) == 0).all()
    chosen = np.abs(backend.numpy(gradient)[0]).max(axis=0) > 0
    hard = scores[0].argmax(axis=0) != target[0]
    for c, (from_hard, from_easy) in enumerate(expected):
        for kind, count in ((hard, from_hard), (~hard, from_easy)):
            pixels = np.flatnonzero((target[0] == c) & kind)
            first = pixels[np.argsort(noise[0, pixels])][:count]
            np.testing.assert_array_equal(np.flatnonzero(chosen & (target[0] == c) & kind), np.sort(first))
    np.testing.assert_array_equal(backend.numpy(value)[0] > 0, chosen)


def test_classes_that_lie_apart_have_little_loss(backend: Backend) -> None:
    scores, target = scene([8, 8], [2, 2])
    apart = np.stack([target == 0, target == 1], axis=1) * 3.0
    loss = partial(al.PixelContrastLoss(max_views=4), noise=0)
    given = backend.array(scores), backend.array(target)
    value = float(backend.value(loss, (backend.array(apart), given[0]), given[1]))
    mixed = float(backend.value(loss, (backend.array(0 * apart + 1.0), given[0]), given[1]))
    # Similarities are 1 within a class and 0 beyond, of four anchors each; then they are all 1.
    factor = 0.1 / 0.07
    np.testing.assert_allclose(value, factor * np.log1p(4 * np.exp(-10.0)), rtol=1e-9)
    np.testing.assert_allclose(mixed, factor * np.log(5.0), rtol=1e-9)


def test_length_does_not_matter_and_zero_has_no_direction(backend: Backend, rng: np.random.Generator) -> None:
    sample = embedded(rng)
    loss, noise = al.PixelContrastLoss(max_views=4), {"noise": backend.array(sample.arrays["noise"])}
    scores, target = backend.array(sample.logits[1]), backend.array(sample.target)
    lengths = np.exp(rng.normal(size=(2, 1, 5, 8)) * 3)
    value, (gradient, _) = backend.value_and_grad(loss, (backend.array(sample.logits[0]), scores), target, **noise)
    longer, (smaller, _) = backend.value_and_grad(
        loss, (backend.array(sample.logits[0] * lengths), scores), target, **noise
    )
    np.testing.assert_allclose(backend.numpy(longer), backend.numpy(value), rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(smaller) * lengths, backend.numpy(gradient), rtol=1e-9, atol=1e-15)
    nothing = backend.array(0 * sample.logits[0])
    value, (gradient, _) = backend.value_and_grad(loss, (nothing, scores), target, **noise)
    assert np.isfinite(backend.numpy(value))
    assert (backend.numpy(gradient) == 0).all()


def test_similarities_that_would_underflow(backend: Backend, rng: np.random.Generator) -> None:
    """At a low temperature the exponentials span hundreds of orders of magnitude."""
    sample = embedded(rng)
    loss = al.PixelContrastLoss(max_views=4, temperature=1e-3, base_temperature=1e-3)
    logits = tuple(backend.array(x.astype(np.float32)) for x in sample.parts)
    noise = sample.arrays["noise"].astype(np.float32)
    value, (gradient, _) = backend.value_and_grad(
        loss, logits, backend.array(sample.target), noise=backend.array(noise)
    )
    expected = reference_contrast(
        tuple(x.astype(np.float32) for x in sample.parts), sample.target, **vars(loss), noise=noise
    )
    np.testing.assert_allclose(backend.numpy(value), expected, rtol=1e-5)
    assert np.isfinite(backend.numpy(gradient)).all()


@pytest.mark.backends("numpy", "strict", "torch", "jax-jitted")
def test_pixels_are_drawn_with_equal_chances(backend: Backend, rng: np.random.Generator) -> None:
    scores, target = scene([12, 12], [6, 6])
    given = (backend.array(rng.normal(size=(1, 3, 24))), backend.array(scores)), backend.array(target)
    loss = al.PixelContrastLoss(max_views=4, reduction="none")
    one, same = (backend.numpy(backend.value(loss, *given, rng=generator(backend, 1))) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    draws = 300 if backend.name == "numpy" else 40
    drawn = (backend.value(loss, *given, rng=generator(backend, seed)) for seed in range(draws))
    taken = sum((backend.numpy(losses)[0] > 0).astype(int) for losses in drawn)
    assert taken.sum() == 8 * draws
    # Two of six: a third, within five standard deviations of so many draws.
    assert np.abs(taken / draws - 1 / 3).max() < 5 * np.sqrt(2 / 9 / draws)


def test_without_noise_or_generator(backend: Backend, rng: np.random.Generator) -> None:
    sample = embedded(rng)
    given = tuple(map(backend.array, sample.parts)), backend.array(sample.target)
    loss = al.PixelContrastLoss(max_views=4)
    if backend.needs == "jax":
        with pytest.raises(ValueError, match=r"^pixel_contrast_loss: JAX has no default generator: expected rng="):
            loss(*given)
    else:
        assert len({float(loss(*given)) for _ in range(4)}) > 1
    with pytest.raises(TypeError, match=r"^pixel_contrast_loss: rng is a str, expected a"):
        loss(*given, rng="seed")
    with pytest.raises(ValueError, match=r"^pixel_contrast_loss: noise and rng are both given"):
        loss(*given, noise=0, rng=generator(backend, 1))
    with pytest.raises(ValueError, match=r"^pixel_contrast_loss: noise is 1, expected 0 or an array"):
        loss(*given, noise=1)
    with pytest.raises(
        ValueError, match=r"^pixel_contrast_loss: noise has shape \(2, 4, 5, 8\), expected \(2, 5, 8\) or"
    ):
        loss(*given, noise=given[0][0])


def test_the_two_inputs_must_fit(backend: Backend, rng: np.random.Generator) -> None:
    sample = embedded(rng)
    embedding, scores = map(backend.array, sample.parts)
    target = backend.array(sample.target)
    with pytest.raises(TypeError, match=r"^pixel_contrast_loss: logits is .*, expected a tuple of two arrays: \(embed"):
        al.pixel_contrast_loss(embedding, target, noise=0)
    with pytest.raises(
        ValueError, match=r"^pixel_contrast_loss: logits\[0\] has shape \(2, 4, 5, 7\), expected that of"
    ):
        al.pixel_contrast_loss((embedding[..., :-1], scores), target, noise=0)
    last = tuple(backend.array(np.moveaxis(x, 1, -1)) for x in sample.parts)
    numbers = {"noise": backend.array(sample.arrays["noise"])}
    found = backend.value(al.PixelContrastLoss(max_views=4, axis=-1), last, target, **numbers)
    expected = Case(al.PixelContrastLoss(max_views=4), embedded).reference(sample)
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-9)


def test_no_positions_and_no_anchors(backend: Backend) -> None:
    for shape in ((0, 3, 4), (2, 3, 0), (2, 3, 4)):
        given = (backend.array(np.ones(shape)), backend.array(np.ones(shape)))
        target = backend.array(np.zeros((shape[0], shape[2]), dtype=np.int64))
        for reduction in ("mean", "none"):
            loss = partial(al.PixelContrastLoss(reduction=reduction), noise=0)
            value, gradients = backend.value_and_grad(loss, given, target)
            assert (backend.numpy(value) == 0).all()
            assert all((backend.numpy(g) == 0).all() for g in gradients)

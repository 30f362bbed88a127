"""What is special to the focal losses: their limits, their values by hand, and where powers are singular."""

from __future__ import annotations

import math
from typing import Any

import cases
import numpy as np
import pytest
from backends import Backend
from reference import LOSSES

import arrayloss as al
from arrayloss._machines.formula import Formula
from arrayloss.losses.focal import _ASYMMETRIC, _FOCAL, _SIGMOID_FOCAL

GAMMAS = [0.0, 0.1, 0.5, 1.0, 1.7, 2.0, 5.0]


def gradients(loss: Any, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value, gradient = al.value_and_grad(loss)(logits, target)
    return value, gradient


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("alpha", [None, cases.W4])
def test_gamma_0_is_cross_entropy(
    alpha: Any, smoothing: float, reduction: str, backend: Backend, rng: np.random.Generator
) -> None:
    """The same numbers, at logits that saturate too."""
    sample = cases.labels(rng)
    sample.logits[0] *= 60.0
    given = backend.array(sample.logits), backend.array(sample.target)
    options = {"label_smoothing": smoothing, "reduction": reduction}
    found = backend.value_and_grad(al.FocalLoss(0.0, alpha, **options), *given)
    expected = backend.value_and_grad(al.CrossEntropyLoss(alpha, **options), *given)
    for f, e in zip(found, expected, strict=True):
        # Compiled, the same formula may round otherwise.
        np.testing.assert_allclose(backend.numpy(f), backend.numpy(e), rtol=1e-14 if backend.compiles else 0)


def test_gamma_0_is_cross_entropy_of_probabilities(rng: np.random.Generator) -> None:
    sample, weight = cases.soft(rng), (0.5, 1.0, 0.0)
    found = gradients(al.FocalLoss(0.0, weight), sample.logits, sample.target)
    expected = gradients(al.CrossEntropyLoss(weight), sample.logits, sample.target)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-14, atol=1e-17)


def test_labels_are_their_one_hot_probabilities(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, size=(3, 5))
    one_hot = (labels[:, None] == np.arange(4)[:, None]).astype(float)
    for loss in (al.FocalLoss(1.3), al.FocalLoss(1.3, label_smoothing=0.2)):
        for f, e in zip(gradients(loss, logits, labels), gradients(loss, logits, one_hot), strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-16)


def test_a_number_as_alpha_cancels_in_the_mean_over_labels_alone(rng: np.random.Generator) -> None:
    sample, soft = cases.labels(rng), cases.soft(rng)
    plain, scaled = al.FocalLoss(), al.FocalLoss(alpha=0.25)
    given = sample.logits, sample.target
    np.testing.assert_allclose(scaled(*given), plain(*given), rtol=1e-14)
    for reduction in ("sum", "none"):
        found = al.FocalLoss(alpha=0.25, reduction=reduction)(*given)
        np.testing.assert_allclose(found, 0.25 * al.FocalLoss(reduction=reduction)(*given), rtol=1e-14)
    np.testing.assert_allclose(scaled(soft.logits, soft.target), 0.25 * plain(soft.logits, soft.target), rtol=1e-14)
    assert al.FocalLoss(alpha=np.asarray(0.25)) == scaled
    assert al.FocalLoss(alpha=0.0)(*given) == 0.0


def test_alpha_may_be_an_array_in_a_call(backend: Backend, rng: np.random.Generator) -> None:
    sample = cases.labels(rng)
    given = backend.array(sample.logits), backend.array(sample.target)
    for alpha in (np.asarray(cases.W4), np.asarray(0.4)):
        found = al.focal_loss(*given, alpha=backend.array(alpha), reduction="sum")
        expected = al.focal_loss(sample.logits, sample.target, alpha=alpha.tolist(), reduction="sum")
        np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^focal_loss: alpha has shape \(3,\), expected \(4,\) or \(\)"):
        al.focal_loss(sample.logits, sample.target, alpha=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_of_labels_at_saturation(gamma: float, backend: Backend) -> None:
    """Value and slope keep their digits where the true class is all but certain, and are 0 where it is certain."""
    margins = np.asarray([-40.0, -1.0, 0.0, 3.0, 20.0, 30.0, 50.0, 1e4])
    logits = np.stack([margins, np.zeros(8)], axis=1)
    value, gradient = backend.value_and_grad(
        al.FocalLoss(gamma, reduction="none"), backend.array(logits), backend.array(np.zeros(8, dtype=np.int64))
    )
    for i, m in enumerate(margins[:-1]):
        entropy, missed = float(np.logaddexp(0.0, -m)), float(np.exp(-np.logaddexp(0.0, m)))
        # log(1 + exp(-m)) is computed from 1 + exp(-m), and has an absolute error.
        loss = missed**gamma * entropy
        np.testing.assert_allclose(backend.numpy(value)[i], loss, rtol=1e-9, atol=1e-16)
        slope = -(missed**gamma * missed + gamma * missed**gamma * (1.0 - missed) * entropy)
        np.testing.assert_allclose(backend.numpy(gradient)[i, 0], slope, rtol=1e-3, atol=1e-16)
    assert backend.numpy(value)[-1] == 0.0
    assert (backend.numpy(gradient)[-1] == 0.0).all()


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_focal_at_saturation(gamma: float, target: float, backend: Backend) -> None:
    """All digits at every score, and a finite gradient everywhere."""
    x = np.asarray([-1e4, -300.0, -80.0, -30.0, -1.0, 0.0, 1e-3, 2.0, 30.0, 80.0, 300.0, 1e4])[:, None]
    value, gradient = backend.value_and_grad(
        al.SigmoidFocalLoss(gamma, None, reduction="none"),
        backend.array(x),
        backend.array(np.full(x.shape, target)),
    )

    def reference(x: np.ndarray) -> np.ndarray:
        options = {"gamma": gamma, "alpha": None, "reduction": "none"}
        return LOSSES["sigmoid_focal_loss"](x, np.full(x.shape, target), **options)

    np.testing.assert_allclose(backend.numpy(value), reference(x), rtol=1e-12, atol=1e-100)
    near, far = (reference(x + h) - reference(x - h) for h in (1e-3, 2e-3))
    np.testing.assert_allclose(backend.numpy(gradient), (8.0 * near - far) / 0.012, rtol=1e-7, atol=1e-30)


@pytest.mark.parametrize("loss", [al.SigmoidFocalLoss(0.5), al.AsymmetricLoss(0.5, 0.5), al.AsymmetricLoss(clip=0.0)])
def test_infinite_scores_on_the_right_side_cost_nothing(loss: al.Loss, backend: Backend) -> None:
    x, y = np.asarray([[math.inf, -math.inf, 1.0]]), np.asarray([[1.0, 0.0, 1.0]])
    value, gradient = backend.value_and_grad(loss, backend.array(x), backend.array(y))
    np.testing.assert_allclose(backend.numpy(value), loss(x[:, 2:], y[:, 2:]) / 3.0, rtol=1e-12)
    assert np.isfinite(backend.numpy(gradient)).all()
    np.testing.assert_allclose(backend.numpy(gradient)[0, :2], 0.0, atol=1e-70)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_scores_on_the_wrong_side(dtype: str, backend: Backend) -> None:
    """The loss is a straight line up to a number that is as good as infinite, unless a shift bounds it."""
    largest = float(np.finfo(dtype).smallest_normal) ** -0.5
    for far in (1e4, 1e17, math.inf):
        x, y = np.asarray([[far, -far]], dtype=dtype), np.asarray([[0.0, 1.0]], dtype=dtype)
        loss = min(far, largest)
        for criterion, expected, slopes in (
            (al.SigmoidFocalLoss(0.5, reduction="none"), [0.75 * loss, 0.25 * loss], [0.75, -0.25]),
            (al.AsymmetricLoss(clip=0.0, reduction="none"), [loss, loss], [1.0, -1.0]),
            (al.AsymmetricLoss(clip=0.5, reduction="none"), [0.5**4 * math.log(2.0), loss], [0.0, -1.0]),
        ):
            value, gradient = backend.value_and_grad(criterion, backend.array(x), backend.array(y))
            np.testing.assert_allclose(backend.numpy(value)[0], expected, rtol=1e-6)
            assert np.isfinite(backend.numpy(gradient)).all()
            if far < math.inf:
                np.testing.assert_allclose(backend.numpy(gradient)[0], slopes, rtol=1e-6, atol=1e-12)


def test_sigmoid_focal_by_hand() -> None:
    """Of p = 0.8: a positive costs 0.25 0.2^2 (-log 0.8), a negative 0.75 0.8^2 (-log 0.2)."""
    x = np.full((1, 2), math.log(4.0))
    found = al.SigmoidFocalLoss(reduction="none")(x, np.asarray([[1, 0]]))
    np.testing.assert_allclose(found, [[0.25 * 0.04 * -math.log(0.8), 0.75 * 0.64 * -math.log(0.2)]], rtol=1e-13)


def test_sigmoid_focal_without_focus_is_binary_cross_entropy(rng: np.random.Generator) -> None:
    for make in (cases.labels, cases.multilabel, cases.binary):
        sample = make(rng)
        found = gradients(al.SigmoidFocalLoss(0.0, None), sample.logits, sample.target)
        for f, e in zip(found, gradients(al.BCELoss(), sample.logits, sample.target), strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-13, atol=1e-18)


def test_two_classes_by_softmax_or_sigmoid(rng: np.random.Generator) -> None:
    """The softmax of (0, x) is the sigmoid of x."""
    x, y = 3.0 * rng.normal(size=(4, 1, 5)), rng.integers(0, 2, size=(4, 5))
    both = np.concatenate([np.zeros_like(x), x], axis=1)
    for gamma in GAMMAS:
        value, gradient = gradients(al.FocalLoss(gamma, (0.6, 0.4), reduction="sum"), both, y)
        expected, slopes = gradients(al.SigmoidFocalLoss(gamma, 0.4, reduction="sum"), x, y)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient[:, 1:], slopes, rtol=1e-11, atol=1e-15)


def test_asymmetric_by_hand() -> None:
    """Of p = 0.8 with a shift of 0.2: a positive costs 0.2 (-log 0.8), a negative 0.6^4 (-log 0.4)."""
    x = np.asarray([[math.log(4.0), math.log(4.0), math.log(0.2)]])
    found = al.AsymmetricLoss(clip=0.2, reduction="none")(x, np.asarray([[1, 0, 0]]))
    np.testing.assert_allclose(found, [[0.2 * -math.log(0.8), 0.6**4 * -math.log(0.4), 0.0]], rtol=1e-13)


def test_asymmetric_without_focus_and_shift_is_binary_cross_entropy(rng: np.random.Generator) -> None:
    for make in (cases.labels, cases.multilabel, cases.binary):
        sample = make(rng)
        found = gradients(al.AsymmetricLoss(0.0, 0.0, 0.0), sample.logits, sample.target)
        for f, e in zip(found, gradients(al.BCELoss(), sample.logits, sample.target), strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-13, atol=1e-18)


def test_asymmetric_of_one_gamma_is_sigmoid_focal(rng: np.random.Generator) -> None:
    sample = cases.labels(rng)
    found = gradients(al.AsymmetricLoss(1.4, 1.4, 0.0), sample.logits, sample.target)
    for f, e in zip(found, gradients(al.SigmoidFocalLoss(1.4, None), sample.logits, sample.target), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-18)


def test_asymmetric_at_the_kink(backend: Backend) -> None:
    """At p = m: the mean of both sides of a kink, and 0 where the focus smooths it."""
    x, y = backend.array(np.zeros((1, 1))), backend.array(np.zeros((1, 1)))
    for gamma, expected in ((0.0, 0.5 * 0.25), (0.5, 0.0), (4.0, 0.0)):
        value, gradient = backend.value_and_grad(al.AsymmetricLoss(gamma, clip=0.5), x, y)
        assert backend.numpy(value) == 0.0
        np.testing.assert_allclose(backend.numpy(gradient), [[expected]], atol=1e-70)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [1e-6, 0.05, 0.9])
def test_asymmetric_far_out(clip: float, dtype: str, backend: Backend) -> None:
    """The shifted logarithm keeps its digits for a small shift and a sure yes, and for a small probability."""
    p = clip + np.asarray([1e-2, 0.3, 0.5, 0.7]) * (1.0 - clip)
    x = np.concatenate([np.log(p) - np.log1p(-p), [18.0, 40.0, 1e4]])[:, None].astype(dtype)
    found = al.AsymmetricLoss(0.0, clip=clip, reduction="none")(
        backend.array(x), backend.array(np.zeros(x.shape, dtype=dtype))
    )
    wide = x.astype(np.float64)
    expected = -np.log(np.exp(-np.logaddexp(0.0, wide)) + clip)
    close = 1e-10 if dtype == "float64" else 2e-5 if clip < 0.5 else 2e-4
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=close)


FORMULAS = {"focal": _FOCAL, "sigmoid focal": _SIGMOID_FOCAL, "asymmetric": _ASYMMETRIC}
NUMBERS = [
    *(("focal", (gamma,)) for gamma in GAMMAS),
    *(("sigmoid focal", (gamma, 0.3, 0.7)) for gamma in GAMMAS),
    *(("asymmetric", (gamma, 1.0, clip)) for gamma in GAMMAS for clip in (0.0, 0.05)),
    *(("asymmetric", (4.0, gamma, 0.05)) for gamma in GAMMAS if gamma != 1.0),
]


@pytest.mark.backends("torch", "jax")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "numbers"), NUMBERS, ids=str)
def test_slopes_are_the_derivatives_of_losses(
    name: str, numbers: tuple[float, ...], dtype: str, backend: Backend
) -> None:
    """By autodiff through the losses, at every place where a power, a minimum or an exponential turns."""
    formula = FORMULAS[name]
    x = np.asarray([0.0, 1e-300, 1e-30, 1e-12, 1e-4, 0.3, 1.0, 5.0, 30.0, 88.0, 200.0, 800.0, 1e4])
    t = None
    if name != "focal":
        x = np.tile(np.concatenate([x, -x]), 3)
        t = np.repeat([0.0, 0.4, 1.0], len(x) // 3).astype(dtype)
    x = x.astype(dtype)
    least = float(np.finfo(dtype).smallest_normal) ** 0.5
    numbers = (*numbers, least) if name == "focal" else (*numbers, least, -math.log(least))
    found, second = derivatives(backend, formula, numbers, x, t)
    expected = formula.slopes(namespace(), x, t, *numbers)
    np.testing.assert_allclose(found, expected, rtol=1e-11 if dtype == "float64" else 2e-5, atol=1e-18)
    assert np.isfinite(second).all()
    if formula.both is not None:
        losses, slopes = formula.both(namespace(), x, t, *numbers)
        np.testing.assert_array_equal(slopes, expected)
        alone = formula.losses(namespace(), x, t, *numbers)
        np.testing.assert_allclose(losses, alone, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-18)


def namespace() -> Any:
    import array_api_compat.numpy

    return array_api_compat.numpy


def derivatives(
    backend: Backend, formula: Formula, numbers: tuple[float, ...], x: np.ndarray, t: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivative of the losses, and that of the slopes, by autodiff."""
    given = None if t is None else backend.array(t)
    if backend.name == "torch":
        import array_api_compat.torch as xp
        import torch

        found = [
            torch.func.grad(lambda x, f=f: f(xp, x, given, *numbers).sum())(backend.array(x))
            for f in (formula.losses, formula.slopes)
        ]
    else:
        import jax

        found = [
            jax.grad(lambda x, f=f: f(jax.numpy, x, given, *numbers).sum())(backend.array(x))
            for f in (formula.losses, formula.slopes)
        ]
    return backend.numpy(found[0]), backend.numpy(found[1])

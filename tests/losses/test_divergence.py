"""What is special to the losses that compare the logits with those of a teacher."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from backends import Backend

import arrayloss as al

FROM_TEACHER = (
    al.KLDivLoss(),
    al.JSDivLoss(),
    al.DistillationLoss(1.0),
    al.DistillationLoss(0.5, 2.0),
    al.DistillCrossEntropyLoss(),
)
each = pytest.mark.parametrize("loss", FROM_TEACHER, ids=repr)


@pytest.fixture
def scores(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, those of a teacher, and labels."""
    return rng.normal(size=(2, 4, 5, 6)), rng.normal(size=(2, 4, 5, 6)) * 2, rng.integers(0, 4, size=(2, 5, 6))


def call(backend: Backend, loss: Any, logits: Any, teacher: Any, labels: Any = None) -> tuple[np.ndarray, np.ndarray]:
    arrays = {} if labels is None else {"labels": backend.array(labels)}
    found = backend.value_and_grad(loss, backend.array(logits), backend.array(teacher), **arrays)
    return backend.numpy(found[0]), backend.numpy(found[1])


# By hand --------------------------------------------------------------------------------------------------------------


def test_by_hand(backend: Backend) -> None:
    """Two classes: student (1/2, 1/2), teacher (3/4, 1/4)."""
    logits, teacher = np.zeros((1, 2)), np.log([[3.0, 1.0]])
    expected = {
        al.KLDivLoss(): 0.75 * math.log(1.5) + 0.25 * math.log(0.5),
        al.JSDivLoss(): (
            0.5 * (0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375))
            + 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375))
        ),
        al.DistillCrossEntropyLoss(): math.log(2.0),
        al.DistillCrossEntropyLoss((3.0, 1.0)): (3 * 0.75 + 0.25) * math.log(2.0),
    }
    for loss, value in expected.items():
        np.testing.assert_allclose(call(backend, loss, logits, teacher)[0], value, rtol=1e-12)
    # At temperature 1/2 the teacher has (9/10, 1/10).
    found, _ = call(backend, al.KLDivLoss(temperature=0.5), logits, teacher)
    np.testing.assert_allclose(found, 0.25 * (0.9 * math.log(1.8) + 0.1 * math.log(0.2)), rtol=1e-12)


# Identities -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_student_equal_to_its_teacher(backend: Backend, temperature: float, scores: Any) -> None:
    teacher = scores[1]
    for loss in (al.KLDivLoss(temperature=temperature), al.JSDivLoss(temperature=temperature)):
        # Scores but for an offset are the same probabilities.
        value, gradient = call(backend, loss, teacher + 3.0, teacher)
        np.testing.assert_allclose(value, 0.0, atol=1e-14)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-14)


@pytest.mark.parametrize(("loss", "close"), [(al.KLDivLoss(), 2e-8), (al.JSDivLoss(), 1e-10)], ids=repr)
def test_a_student_close_to_its_teacher(backend: Backend, loss: al.Loss, close: float, scores: Any) -> None:
    """The loss is of the second order in the difference: a rounding of either normaliser hardly shows."""
    teacher = scores[1].astype(np.float32)
    logits = teacher + (1e-3 * scores[0]).astype(np.float32)
    expected = float(loss(logits.astype(np.float64), teacher.astype(np.float64)))
    found, _ = call(backend, loss, logits, teacher)
    assert 0 < expected < 1e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=close)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kl_of_probabilities_that_underflow(backend: Backend, dtype: str) -> None:
    """Of two classes the student gives the first far less than the teacher does, who gives it 1/2."""
    for far in (5.0, 20.0, 24.0, 80.0, 88.0, 95.0, 101.0, 103.0, 110.0, 730.0, 800.0, 1e4):
        value, gradient = call(backend, al.KLDivLoss(), np.array([[-far, 0.0]], dtype), np.zeros((1, 2), dtype))
        expected = 0.5 * (far + 2 * math.log1p(math.exp(-far))) - math.log(2.0)
        np.testing.assert_allclose(value, expected, rtol=2e-6 if dtype == "float32" else 1e-14)
        np.testing.assert_allclose(gradient, [[-0.5, 0.5]], atol=math.exp(-far) + 1e-7)


def test_js_is_symmetric_and_bounded(backend: Backend, scores: Any) -> None:
    logits, teacher, _ = scores
    forth = call(backend, al.JSDivLoss(reduction="none"), logits, teacher)[0]
    back = call(backend, al.JSDivLoss(reduction="none"), teacher, logits)[0]
    np.testing.assert_allclose(forth, back, rtol=1e-12)
    assert ((forth > 0) & (forth < math.log(2.0))).all()
    for far in (1e2, 1e4, np.inf):
        apart = np.where([[[True], [False]]], far, -far) if np.isfinite(far) else np.array([[[0.0], [-np.inf]]])
        value, gradient = call(backend, al.JSDivLoss(), apart, apart[:, ::-1].copy())
        np.testing.assert_allclose(value, math.log(2.0), rtol=1e-12)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_and_the_soft_cross_entropy_have_one_gradient(backend: Backend, temperature: float, scores: Any) -> None:
    logits, teacher, _ = scores
    value, gradient = call(backend, al.KLDivLoss(temperature=temperature), logits, teacher)
    cross, cross_gradient = call(backend, al.DistillCrossEntropyLoss(temperature=temperature), logits, teacher)
    np.testing.assert_allclose(gradient, cross_gradient, rtol=1e-10, atol=1e-15)
    # They differ by the entropy of the teacher, its cross entropy with itself.
    entropy, _ = call(backend, al.DistillCrossEntropyLoss(temperature=temperature), teacher, teacher)
    np.testing.assert_allclose(value, cross - entropy, rtol=1e-10)


def test_the_gradient_keeps_its_size_as_the_temperature_rises(backend: Backend, scores: Any) -> None:
    """In the limit it is that of half the squared difference of the centred scores, over C."""
    logits, teacher, _ = (np.asarray(a) for a in scores)
    _, gradient = call(backend, al.KLDivLoss(temperature=1e4, reduction="sum"), logits, teacher)
    difference = logits - teacher
    limit = (difference - difference.mean(axis=1, keepdims=True)) / 4
    np.testing.assert_allclose(gradient, limit, atol=1e-3)


def test_distillation_is_the_sum_of_its_shares(backend: Backend, scores: Any) -> None:
    logits, teacher, labels = scores
    labels[0, 0] = 255
    for alpha in (0.0, 0.3, 1.0):
        value, gradient = call(backend, al.DistillationLoss(alpha, 3.0), logits, teacher, labels)
        soft = call(backend, al.KLDivLoss(temperature=3.0), logits, teacher, labels)
        hard = backend.value_and_grad(al.CrossEntropyLoss(), backend.array(logits), backend.array(labels))
        np.testing.assert_allclose(value, (1 - alpha) * backend.numpy(hard[0]) + alpha * soft[0], rtol=1e-12)
        np.testing.assert_allclose(
            gradient, (1 - alpha) * backend.numpy(hard[1]) + alpha * soft[1], rtol=1e-10, atol=1e-16
        )


@pytest.mark.parametrize("options", [{}, {"top_k_percent_pixels": 0.3}, {"weight": (0.5, 1.0, 0.0, 3.0)}], ids=str)
def test_distill_cross_entropy_is_cross_entropy_with_probabilities(
    backend: Backend, options: Any, scores: Any, rng: np.random.Generator
) -> None:
    logits, teacher, _ = scores
    e = np.exp(teacher)
    pixel = rng.random((2, 5, 6))
    given = backend.array(logits), backend.array(pixel)
    for arrays in ({}, {"pixel_weight": given[1]}):
        found = al.distill_cross_entropy_loss(given[0], backend.array(teacher), **options, **arrays)
        q = backend.array(e / e.sum(axis=1, keepdims=True))
        expected = al.cross_entropy_loss(given[0], q, **options, **arrays)
        np.testing.assert_allclose(backend.numpy(found), backend.numpy(expected), rtol=1e-12)


# Zeros and infinities -------------------------------------------------------------------------------------------------


@each
def test_classes_that_are_ruled_out(backend: Backend, loss: al.Loss, scores: Any) -> None:
    """A class that both rule out is as if it were not there."""
    logits, teacher, labels = scores
    more = np.full((2, 1, 5, 6), -np.inf)
    given = labels if loss == al.DistillationLoss(0.5, 2.0) else None
    value, gradient = call(backend, loss, logits, teacher, given)
    wide = [np.concatenate([x, more], axis=1) for x in (logits, teacher)]
    value_wide, gradient_wide = call(backend, loss, *wide, given)
    np.testing.assert_allclose(value_wide, value, rtol=1e-12)
    np.testing.assert_allclose(gradient_wide[:, :4], gradient, rtol=1e-9, atol=1e-16)
    assert (gradient_wide[:, 4] == 0).all()


def test_a_student_that_rules_out_what_the_teacher_does_not(backend: Backend) -> None:
    logits, teacher = np.array([[0.0, -np.inf], [0.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 1.0]])
    for loss in (al.KLDivLoss(), al.DistillCrossEntropyLoss()):
        value, gradient = call(backend, loss, logits, teacher)
        assert value == np.inf
        assert np.isfinite(gradient).all()
    # A weight of 0 takes out even an infinite loss.
    assert np.isfinite(call(backend, al.DistillCrossEntropyLoss((1.0, 0.0)), logits, teacher)[0])


@each
def test_nothing_at_ignored_positions_matters(backend: Backend, loss: al.Loss, scores: Any) -> None:
    logits, teacher, labels = scores
    labels[:, 0] = 255
    value, gradient = call(backend, loss, logits, teacher, labels)
    for garbage in (np.nan, np.inf, -np.inf):
        for x in (logits, teacher):
            x[:, :, 0] = garbage
        found, slope = call(backend, loss, logits, teacher, labels)
        np.testing.assert_allclose(found, value, rtol=1e-14)
        np.testing.assert_allclose(slope, gradient, rtol=1e-12, atol=1e-16)
        assert (slope[:, :, 0] == 0).all()


# The teacher is a constant --------------------------------------------------------------------------------------------


@each
def test_no_gradient_reaches_the_teacher(loss: al.Loss, scores: Any) -> None:
    logits, teacher, labels = scores
    torch = pytest.importorskip("torch")
    x, t = (torch.tensor(a, requires_grad=True) for a in (logits, teacher))
    loss(x, t, labels=torch.tensor(labels)).backward()
    assert x.grad.abs().sum() > 0
    assert t.grad is None
    jax = pytest.importorskip("jax")
    y = jax.numpy.asarray(labels)
    slopes = jax.jit(jax.grad(lambda x, t: loss(x, t, labels=y), argnums=(0, 1)))(
        *map(jax.numpy.asarray, (logits, teacher))
    )
    np.testing.assert_allclose(slopes[0], x.grad.numpy(), rtol=1e-9, atol=1e-15)
    assert (slopes[1] == 0).all()


def test_class_weights_can_be_learned(scores: Any) -> None:
    logits, teacher, _ = scores
    losses = [float(al.distill_cross_entropy_loss(logits, teacher, weight=w)) for w in np.eye(4)]
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    al.distill_cross_entropy_loss(torch.tensor(logits), torch.tensor(teacher), weight=weight).backward()
    np.testing.assert_allclose(weight.grad.numpy(), losses, rtol=1e-12)
    given = list(map(jax.numpy.asarray, (logits, teacher)))
    slope = jax.grad(lambda w: al.distill_cross_entropy_loss(*given, weight=w))(jax.numpy.ones(4))
    np.testing.assert_allclose(slope, losses, rtol=1e-12)


# Arguments ------------------------------------------------------------------------------------------------------------


def test_a_share_of_labels_that_are_not_there(backend: Backend, scores: Any) -> None:
    logits, teacher = map(backend.array, scores[:2])
    with pytest.raises(ValueError, match=r"^distillation_loss: alpha is 0\.5 and labels is None, expected labels="):
        al.distillation_loss(logits, teacher)
    assert al.distillation_loss(logits, teacher, alpha=1.0) == al.kl_div_loss(logits, teacher)


@pytest.mark.eager
@each
def test_misfits(backend: Backend, loss: al.Loss, scores: Any) -> None:
    name = type(loss).function.__name__
    logits, teacher, labels = map(backend.array, scores)
    with pytest.raises(ValueError, match=rf"^{name}: target has shape .*expected the logits of the teacher .*labels="):
        loss(logits, labels, labels=labels)
    with pytest.raises(TypeError, match=rf"^{name}: target has dtype int64, expected a real floating dtype"):
        loss(logits, backend.array(scores[1].astype(np.int64)), labels=labels)
    with pytest.raises(ValueError, match=rf"^{name}: labels has shape \(2, 5, 5\), expected \(2, 5, 6\) or"):
        loss(logits, teacher, labels=backend.array(scores[2][..., :-1]))
    with pytest.raises(TypeError, match=rf"^{name}: labels has dtype float64, expected integer class labels"):
        loss(logits, teacher, labels=backend.array(scores[2] * 1.0))
    if backend.reads:
        with pytest.raises(ValueError, match=rf"^{name}: labels holds the label 4 at position \(0, 0, 0\)"):
            loss(logits, teacher, labels=backend.array(np.full((2, 5, 6), 4)))
    for temperature in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=rf"^{name}: temperature is .*expected a finite number above 0"):
            type(loss)(temperature=temperature)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_shares_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^distillation_loss: alpha is .*expected a number in \[0, 1\]"):
        al.DistillationLoss(alpha)


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_labels_of_any_class_axis(backend: Backend, axis: int, scores: Any) -> None:
    logits, teacher, labels = scores
    labels[:, 1] = 255
    value, _ = call(backend, al.DistillationLoss(0.5), logits, teacher, labels)
    moved = [np.moveaxis(x, 1, axis) for x in (logits, teacher, labels[:, None])]
    for given in (labels, moved[2]):
        found, _ = call(backend, al.DistillationLoss(0.5, axis=axis), *moved[:2], given)
        np.testing.assert_allclose(found, value, rtol=1e-13)


def test_a_single_sample(backend: Backend, rng: np.random.Generator) -> None:
    logits, teacher = rng.normal(size=5), rng.normal(size=5)
    for loss in (al.KLDivLoss(reduction="none"), al.DistillationLoss(0.5, reduction="none")):
        value, gradient = call(backend, loss, logits, teacher, np.asarray(3))
        batched, batched_gradient = call(backend, loss, logits[None], teacher[None], np.asarray([3]))
        assert value.shape == ()
        np.testing.assert_allclose(value, batched[0], rtol=1e-14)
        np.testing.assert_allclose(gradient, batched_gradient[0], rtol=1e-12)


# Blocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4001, 3449, 65537])
def test_positions_that_tie_still_tie(backend: Backend, count: int, rng: np.random.Generator) -> None:
    """Equal positions have equal losses in whichever block they lie, so that a selection keeps or drops them all."""
    logits, teacher = (rng.normal(size=(1, 19, 7)).astype(np.float32) for _ in range(2))
    place = rng.integers(0, 7, size=count)
    for loss in (al.DistillCrossEntropyLoss(reduction="none"), al.KLDivLoss(temperature=3.0, reduction="none")):
        losses, _ = call(backend, loss, logits[..., place], teacher[..., place])
        for i in range(7):
            assert np.unique(losses[0][place == i]).size == 1

"""What users do with a loss beside calling it: the transforms of JAX and torch, and the memory layouts of NumPy."""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import CASES, FIRST, LABELLED, MOST, Case, Sample, labels
from reference import numerical_gradient
from test_contract import WITHOUT_PARTS, padded

import arrayloss as al

every_case = pytest.mark.parametrize("case", CASES, ids=str)


one_per_class = pytest.mark.parametrize("case", FIRST, ids=str)
most_options = pytest.mark.parametrize("case", MOST, ids=str)
some_classes = pytest.mark.parametrize("case", MOST[::3], ids=str)
jax_only = pytest.mark.backends("jax")
torch_only = pytest.mark.backends("torch")
numpy_only = pytest.mark.backends("numpy")


def given(backend: Backend, sample: Sample, dtype: str = "float64") -> tuple[Any, Any, dict[str, Any]]:
    """Return logits, target and further arrays on a backend, real ones in the dtype."""

    def convert(x: np.ndarray) -> Any:
        return backend.array(x.astype(dtype) if x.dtype.kind == "f" else x)

    logits = tuple(map(convert, sample.parts))
    arrays = {name: convert(x) for name, x in sample.arrays.items()}
    return (logits if isinstance(sample.logits, tuple) else logits[0]), convert(sample.target), arrays


def parts(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def like(x: Any, new: Any) -> Any:
    """Return a list of arrays in the form of the logits `x`: a tuple, or the only one."""
    return tuple(new) if isinstance(x, tuple) else next(iter(new))


def tape(case: Case, sample: Sample) -> tuple[float, list[np.ndarray]]:
    """Return value and gradients by NumPy in float64, which the contract suite holds against the reference."""
    value, gradients = al.value_and_grad(case.loss)(sample.logits, sample.target, **sample.arrays)
    return float(value), list(parts(gradients))


def close(found: Any, expected: Any, tolerance: float = 1e-11) -> None:
    expected = np.asarray(expected)
    scale = max(np.abs(expected).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def directions(sample: Sample, seed: int = 5) -> list[np.ndarray]:
    """Return a direction to move the logits in."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=x.shape) for x in sample.parts]


def along(gradients: list[np.ndarray], tangents: list[np.ndarray]) -> float:
    return sum(float((g * t).sum()) for g, t in zip(gradients, tangents, strict=True))


def hessian_times(case: Case, sample: Sample, tangents: list[np.ndarray], step: float = 1e-5) -> list[np.ndarray]:
    """Return the change of the gradients along a direction, by differences of the tape's gradients."""
    moved = []
    for sign in (step, -step):
        logits = like(sample.logits, [x + sign * t for x, t in zip(sample.parts, tangents, strict=True)])
        moved.append(tape(case, replace(sample, logits=logits))[1])
    return [(a - b) / (2 * step) for a, b in zip(*moved, strict=True)]


def batch_of(case: Case, rng: np.random.Generator, size: int = 3) -> list[Sample]:
    return [case.make(rng) for _ in range(size)]


def stacked(backend: Backend, samples: list[Sample]) -> tuple[Any, Any, dict[str, Any]]:
    """Return the inputs of several samples, stacked along a new first axis."""
    logits = [backend.array(np.stack(x)) for x in zip(*(s.parts for s in samples), strict=True)]
    arrays = {name: backend.array(np.stack([s.arrays[name] for s in samples])) for name in samples[0].arrays}
    return like(samples[0].logits, logits), backend.array(np.stack([s.target for s in samples])), arrays


@pytest.mark.backends("numpy", "strict", "torch", "cupy", "torch-cuda")
@every_case
def test_the_value_alone(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    """A plain call gives arrays, the same as with a gradient, in the dtype of the logits, for every reduction."""
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample, "float32")
    # The losses of a mixed one need not have "none" in one shape.
    for reduction in ("mean", "sum") if isinstance(case.loss, al.MixedLoss) else ("mean", "sum", "none", "parts"):
        try:
            loss = case.with_options(reduction=reduction).loss
        except ValueError:
            assert reduction == "parts"
            continue
        value = loss(logits, target, **arrays)
        again, _ = al.value_and_grad(loss)(logits, target, **arrays)
        for x, y in zip(parts(value), parts(again), strict=True):
            assert backend.is_array(x), type(x)
            assert str(x.dtype).endswith("float32")
            assert reduction == "none" or x.shape == ()
            np.testing.assert_allclose(backend.numpy(x), backend.numpy(y), rtol=1e-6)


# JAX ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax")


@pytest.fixture
def single_precision(jax: Any) -> Iterator[Any]:
    """JAX as it is out of the box, without float64."""
    jax.config.update("jax_enable_x64", False)
    yield jax
    jax.config.update("jax_enable_x64", True)


@jax_only
@one_per_class
def test_jax_derivatives(case: Case, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """The loss is a static argument of jit; grad, jvp, checkpoint and forward-over-reverse agree with the tape."""
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample)
    tangents = directions(sample)

    def everything(loss: al.Loss, x: Any, v: Any, target: Any, arrays: Any) -> dict[str, Any]:
        def value(x: Any) -> Any:
            return loss(x, target, **arrays)

        found, change = jax.jvp(value, (x,), (v,))
        gradient, second = jax.jvp(jax.grad(value), (x,), (v,))
        again = jax.grad(jax.checkpoint(value))(x)
        return {"value": found, "jvp": change, "grad": gradient, "second": second, "checkpoint": again}

    v = like(sample.logits, list(map(backend.array, tangents)))
    found = jax.jit(everything, static_argnums=0)(case.loss, logits, v, target, arrays)
    value, gradients = tape(case, sample)
    close(found["value"], value)
    for name in ("grad", "checkpoint"):
        for f, e in zip(parts(found[name]), gradients, strict=True):
            close(f, e)
    close(found["jvp"], along(gradients, tangents))
    for f, e in zip(parts(found["second"]), hessian_times(case, sample, tangents), strict=True):
        close(f, e, 1e-6)


@jax_only
@every_case
def test_jax_target_from_outside(case: Case, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """A target that a traced function closes over can be read, while what is computed from it cannot."""
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample)

    def value(x: Any) -> Any:
        return case.loss(x, target, **arrays)

    several = jax.tree.map(lambda x: jax.numpy.stack([x, x, x]), logits)
    assert jax.eval_shape(jax.grad(value), logits) == jax.eval_shape(lambda x: x, logits)
    assert jax.eval_shape(jax.vmap(value), several).shape == (3,)


@jax_only
def test_jax_value_with_a_target_from_outside(backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    sample = labels(rng)
    target = backend.array(sample.target)
    for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.BCELoss()):
        found = jax.jit(lambda x, loss=loss: loss(x, target))(backend.array(sample.logits))
        np.testing.assert_allclose(found, loss(sample.logits, sample.target), rtol=1e-12)
        wrong = target.at[0, 0, 0].set(7)
        # While tracing, values need not be read: NaN will do, and so will an error.
        try:
            spoilt = jax.jit(lambda x, loss=loss, wrong=wrong: loss(x, wrong))(backend.array(sample.logits))
        except ValueError:
            continue
        assert np.isnan(spoilt)


@jax_only
@most_options
def test_jax_vmap_is_a_loop(case: Case, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    samples = batch_of(case, rng)
    logits, target, arrays = stacked(backend, samples)

    def one(x: Any, target: Any, arrays: Any) -> Any:
        return al.value_and_grad(case.loss)(x, target, **arrays)

    values, gradients = jax.jit(jax.vmap(one))(logits, target, arrays)
    for i, sample in enumerate(samples):
        value, expected = tape(case, sample)
        close(values[i], value)
        for f, e in zip(parts(gradients), expected, strict=True):
            close(f[i], e)


#: The losses whose mean is one over images, regions or classes, of each a case in which something is ignored.
AVERAGING = [
    c
    for c in MOST
    if c.function in WITHOUT_PARTS - {"dual_task_loss", "pixel_contrast_loss"} and c.make.__name__ != "soft"
]


def padded_samples(case: Case, rng: np.random.Generator) -> list[Sample]:
    """Return samples of which some have one more image that is all ignored, the others one that is not."""
    samples = []
    for i in range(3):
        longer = repeated(case.make(rng), 3)
        samples.append(longer if i == 1 else padded(repeated(longer, 2), 255))
    return samples


@jax_only
@pytest.mark.parametrize("case", AVERAGING, ids=str)
def test_jax_vmap_of_padded_batches(case: Case, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """In a batch of batches each has its own number of images with something valid."""
    samples = padded_samples(case, rng)
    found = jax.jit(jax.vmap(lambda x, target, arrays: case.loss(x, target, **arrays)))(*stacked(backend, samples))
    for value, sample in zip(found, samples, strict=True):
        close(value, tape(case, sample)[0])


@torch_only
@pytest.mark.parametrize("case", AVERAGING, ids=str)
def test_torch_vmap_of_padded_batches(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    samples = padded_samples(case, rng)
    found = torch.func.vmap(lambda x, target, arrays: case.loss(x, target, **arrays))(*stacked(backend, samples))
    for value, sample in zip(found, samples, strict=True):
        close(value.numpy(), tape(case, sample)[0])


@jax_only
def test_jax_vmap_over_one_argument(backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """Several predictions of one target, along a last axis."""
    sample = labels(rng)
    logits = np.stack([sample.logits, 2 * sample.logits], axis=-1)
    loss = al.CrossEntropyLoss((0.3, 1.0, 2.0, 5.0))
    found = jax.vmap(loss, in_axes=(-1, None))(backend.array(logits), backend.array(sample.target))
    expected = [loss(logits[..., i], sample.target) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def ruled_out(case: Case, sample: Sample, student: bool, teacher: bool, rng: np.random.Generator) -> Sample | None:
    """Return a sample with classes off the target at -inf, in the scores or a teacher's; None if none may be."""
    name, first = case.make.__name__, sample.parts[0]
    if case.options.get("activation", "softmax") is None or case.options.get("label_smoothing"):
        return None
    if name == "multilabel":
        hit = sample.target > 0.0
    elif "taught" in name:
        hit = np.zeros(first.shape, dtype=bool)
        hit[:, 0] = True  # a class is left
        if student and not teacher and not isinstance(case.loss, al.JSDivLoss):
            return None  # what a teacher believes in and the student rules out is infinitely far
    elif name in LABELLED - {"embedded", "pointed", "scenes"}:
        least = 1 if first.shape[1] == 1 else 0
        hit = sample.labels[:, None] == np.arange(least, least + first.shape[1]).reshape(-1, *(1,) * (first.ndim - 2))
        hit[:, 0] |= (sample.labels == 255) & (first.shape[1] > 1)
    else:
        return None
    if teacher and "taught" not in name:
        return None
    if "labels" in sample.arrays:
        hit = hit | (sample.labels[:, None] == np.arange(first.shape[1]).reshape(-1, *(1,) * (first.ndim - 2)))
    out = ~hit & (rng.random(first.shape) < 0.4)
    if student:
        sample = replace(sample, logits=like(sample.logits, [np.where(out, -np.inf, first), *sample.parts[1:]]))
    return replace(sample, target=np.where(out, -np.inf, sample.target)) if teacher else sample


def saturated(case: Case, sample: Sample, size: float) -> Sample | None:
    """Return a sample whose scores, and a teacher's, are about `size` up or down, in float32; None if none may be."""
    if case.options.get("activation", "softmax") is None or case.make.__name__ == "rates":
        return None

    def moved(x: np.ndarray) -> np.ndarray:
        return (np.sign(x) * size + 0.1 * x).astype(np.float32).astype(np.float64)

    if case.make.__name__ == "counts":
        size = min(size, 60.0)  # the loss grows as exp(logits)
    sample = replace(sample, logits=like(sample.logits, [moved(sample.parts[0]), *sample.parts[1:]]))
    return replace(sample, target=moved(sample.target)) if "taught" in case.make.__name__ else sample


def extremes(case: Case, rng: np.random.Generator) -> Iterator[tuple[str, Sample]]:
    """Give samples at which a second derivative may be lost."""
    for student, teacher in ((True, False), (False, True), (True, True)):
        if (sample := ruled_out(case, case.make(rng), student, teacher, rng)) is not None:
            yield "ruled out", sample
    for size in (100.0, 1e4):
        if (sample := saturated(case, case.make(rng), size)) is not None:
            yield "saturated", sample


def second_at_extremes(
    case: Case, backend: Backend, times: Callable[..., dict[str, Any]], dtype: str, rng: np.random.Generator
) -> None:
    """Hold products with the Hessian at extreme scores, by `times`, against differences of the tape's gradients."""
    for kind, sample in extremes(case, rng):
        tangents = directions(sample)
        v = like(sample.logits, [backend.array(t.astype(dtype)) for t in tangents])
        found = times(*given(backend, sample, dtype), v)
        expected = hessian_times(case, sample, tangents)
        for products in found.values():
            for f, e in zip(parts(products), expected, strict=True):
                assert np.isfinite(backend.numpy(f)).all()
                # A ranking of saturated errors changes within the step of the differences.
                if not (kind == "saturated" and "Lovasz" in str(case)):
                    close(backend.numpy(f), e, 1e-6 if dtype == "float64" else 1e-3)


@jax_only
@most_options
def test_jax_second_derivatives_at_extremes(case: Case, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """In float32, where what underflows is near; forward over reverse."""

    @jax.jit
    def times(x: Any, target: Any, arrays: Any, v: Any) -> dict[str, Any]:
        return {"second": jax.jvp(jax.grad(lambda x: case.loss(x, target, **arrays)), (x,), (v,))[1]}

    second_at_extremes(case, backend, times, "float32", rng)


@jax_only
def test_jax_hessian_of_what_both_rule_out(backend: Backend, jax: Any) -> None:
    student, teacher = (backend.array(np.asarray([[-np.inf, *rest]])) for rest in ([0.0, 1.0], [1.0, 2.0]))
    found = np.asarray(jax.hessian(al.JSDivLoss())(student, teacher)).reshape(3, 3)
    curve = 0.04915298331037
    np.testing.assert_allclose(found, [[0, 0, 0], [0, curve, -curve], [0, -curve, curve]], rtol=1e-12, atol=1e-14)


TWICE = [
    (al.CrossEntropyLoss((0.5, 1.0, 2.0), label_smoothing=0.2), np.asarray([[0, 255], [2, 1]])),
    (al.BCELoss(pos_weight=(0.5, 1.0, 2.0)), np.asarray([[0, 255], [2, 1]])),
    (al.DiceLoss(smooth=1.0), np.asarray([[0, 255], [2, 1]])),
    (al.MSELoss(), np.linspace(-1.0, 1.0, 12).reshape(2, 3, 2)),
]


@jax_only
@pytest.mark.parametrize(("loss", "target"), TWICE, ids=lambda x: type(x).__name__)
def test_jax_hessian(loss: al.Loss, target: np.ndarray, backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 2))
    found = np.asarray(jax.jit(jax.hessian(loss))(backend.array(x), backend.array(target))).reshape(12, 12)
    expected = []
    for i in range(12):

        def slope(x: np.ndarray, i: int = i) -> float:
            return float(al.value_and_grad(loss)(x, target)[1].reshape(-1)[i])

        expected.append(numerical_gradient(slope, x, step=1e-3).reshape(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found, found.T, rtol=1e-12, atol=1e-14)


@jax_only
@every_case
def test_jax_without_x64_traces_without_a_warning(
    case: Case, backend: Backend, single_precision: Any, rng: np.random.Generator
) -> None:
    """Nothing asks for a 64-bit dtype, which JAX would answer with a warning, an error here."""
    logits, target, arrays = given(backend, case.make(rng), "float32")
    assert target.dtype.itemsize == 4
    value, gradients = single_precision.eval_shape(al.value_and_grad(case.loss), logits, target, **arrays)
    assert {x.dtype for x in (value, *parts(gradients))} == {np.dtype("float32")}


@jax_only
@one_per_class
def test_jax_without_x64(case: Case, backend: Backend, single_precision: Any, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample, "float32")
    run = single_precision.jit(al.value_and_grad(case.loss))
    value, gradients = run(logits, target, **arrays)
    # The sample is not rounded to float32 first: that alone costs a few of the seven digits.
    expected, expected_gradients = tape(case, sample)
    close(value, expected, 10 * case.float32_tolerance)
    for f, e in zip(parts(gradients), expected_gradients, strict=True):
        close(f, e, 10 * case.float32_tolerance)
    wrong = sample.target.copy()
    if wrong.dtype.kind == "f" or case.make.__name__ in ("entries", "detailed"):
        return  # any label has details
    wrong[0, 0] = 77
    assert np.isnan(run(logits, backend.array(wrong), **arrays)[0])


@jax_only
def test_jax_debug_nans_with_a_hole(backend: Backend, jax: Any) -> None:
    """No operation makes a NaN, not even one that is masked afterwards, where -inf stands off the target.

    Nor where nothing is valid. Of clean input, see test_strict_modes.py.
    """
    logits = backend.array(np.asarray([[[1.0, -np.inf, 3.0]], [[0.0, 2.0, -np.inf]]]).swapaxes(1, 2))
    for target in ([[0], [1]], [[255], [255]]):
        for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.BCELoss()):
            if isinstance(loss, al.BCELoss) and target[0][0] == 255:
                continue  # an infinite score that is ignored is clean, and covered by the other test
            with jax.debug_nans(True):
                value, gradient = al.value_and_grad(loss)(logits, backend.array(np.asarray(target)))
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


@jax_only
def test_jax_training_loop(backend: Backend, jax: Any, rng: np.random.Generator) -> None:
    """A training loop within one compiled program."""
    sample = labels(rng)
    x, target = backend.array(sample.logits), backend.array(sample.target)
    loss = al.value_and_grad(al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss()], [1.0, 1.0]))

    def step(x: Any, _: None) -> tuple[Any, Any]:
        value, gradient = loss(x, target)
        return x - 5.0 * gradient, value

    _, values = jax.jit(lambda x: jax.lax.scan(step, x, None, length=4))(x)
    assert (np.diff(values) < 0).all()


# torch --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def leaves_of(logits: Any) -> Any:
    """Return the logits as leaves that want a gradient."""
    return like(logits, [x.detach().clone().requires_grad_() for x in parts(logits)])


@torch_only
@every_case
def test_torch_backward(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample)
    logits = leaves_of(logits)
    value = case.loss(logits, target, **arrays)
    value.backward()
    expected, gradients = tape(case, sample)
    close(value.detach().numpy(), expected)
    for x, e in zip(parts(logits), gradients, strict=True):
        # A loss may leave an input without gradient, as torch's own do with what they only compare.
        close(np.zeros(e.shape) if x.grad is None else x.grad.numpy(), e)


@torch_only
@every_case
def test_torch_value_and_grad_leaves_no_trace(
    case: Case, backend: Backend, torch: Any, rng: np.random.Generator
) -> None:
    """Inputs get no .grad, and results carry no graph, whatever the inputs require and the mode is."""
    logits, target, arrays = given(backend, case.make(rng))
    logits = leaves_of(logits)
    value, gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
    with torch.no_grad():
        again = al.value_and_grad(case.loss)(logits, target, **arrays)
    assert all(x.grad is None and x.requires_grad for x in parts(logits))
    assert not any(x.requires_grad for x in (value, *parts(gradients)))
    assert torch.equal(again[0], value)
    assert all(map(torch.equal, parts(again[1]), parts(gradients)))


@torch_only
def test_torch_inference_mode_gives_no_zero_gradient(backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """Where torch records nothing, value_and_grad still has the gradient, or says that it cannot."""
    sample = labels(rng)
    logits, target = backend.array(sample.logits), backend.array(sample.target)
    _, expected = al.value_and_grad(al.DiceLoss())(logits, target)
    with torch.inference_mode():
        try:
            _, found = al.value_and_grad(al.DiceLoss())(logits, target)
        except (RuntimeError, TypeError):
            return
    assert torch.equal(found, expected)


@torch_only
def test_torch_other_parameters_keep_their_gradient(backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    sample = labels(rng)
    logits, target = backend.array(sample.logits), backend.array(sample.target)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    al.value_and_grad(lambda x, t: al.cross_entropy_loss(x, t, weight=weight))(logits, target)
    assert weight.grad is None
    al.cross_entropy_loss(logits, target, weight=weight).backward()
    assert weight.grad.abs().sum() > 0


@torch_only
@every_case
def test_torch_gradcheck(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    logits, target, arrays = given(backend, case.make(rng))
    leaves = parts(leaves_of(logits))

    def value(*leaves: Any) -> Any:
        return case.loss(like(logits, leaves), target, **arrays)

    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, leaves, fast_mode=True, atol=1e-4)


@torch_only
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch_second_derivatives_at_extremes(
    case: Case, dtype: str, backend: Backend, torch: Any, rng: np.random.Generator
) -> None:
    """Forward over reverse by torch.func, and a backward pass through a backward pass."""

    def times(x: Any, target: Any, arrays: Any, v: Any) -> dict[str, Any]:
        def value(*x: Any) -> Any:
            return case.loss(x if len(x) > 1 else x[0], target, **arrays)

        slopes = torch.func.grad(value, argnums=tuple(range(len(parts(x)))))
        leaves = parts(leaves_of(x))
        gradients = torch.autograd.grad(value(*leaves), leaves, create_graph=True, materialize_grads=True)
        along_v = sum((g * t).sum() for g, t in zip(gradients, parts(v), strict=True))
        twice = [torch.zeros_like(leaf) for leaf in leaves]
        if along_v.requires_grad:
            twice = torch.autograd.grad(along_v, leaves, materialize_grads=True)
        return {"forward over reverse": torch.func.jvp(slopes, parts(x), parts(v))[1], "twice": tuple(twice)}

    second_at_extremes(case, backend, times, dtype, rng)


@torch_only
@every_case
def test_torch_func_vmap_is_a_loop(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """Gradients of each sample by torch.func.vmap over torch.func.grad, and over value_and_grad."""
    samples = batch_of(case, rng)
    logits, target, arrays = stacked(backend, samples)

    def one(x: Any, target: Any, arrays: Any) -> Any:
        return case.loss(x, target, **arrays)

    plain = torch.func.vmap(one)(logits, target, arrays)
    grads = torch.func.vmap(torch.func.grad(one))(logits, target, arrays)
    values, gradients = torch.func.vmap(lambda x, t, a: al.value_and_grad(case.loss)(x, t, **a))(logits, target, arrays)
    # Predictions of one target, which is not mapped over.
    _, one_target, one_array = given(backend, samples[0])
    shared = torch.func.vmap(one, in_dims=(0, None, None))(logits, one_target, one_array)
    for i, sample in enumerate(samples):
        value, expected = tape(case, sample)
        close(shared[i].numpy(), tape(case, replace(samples[0], logits=sample.logits))[0])
        close(plain[i].numpy(), value)
        close(values[i].numpy(), value)
        for f, g, e in zip(parts(gradients), parts(grads), expected, strict=True):
            close(f[i].numpy(), e)
            close(g[i].numpy(), e)


@torch_only
@pytest.mark.parametrize(("loss", "target"), TWICE, ids=lambda x: type(x).__name__)
def test_torch_jacobian(
    loss: al.Loss, target: np.ndarray, backend: Backend, torch: Any, rng: np.random.Generator
) -> None:
    """The Jacobian of the losses at all positions has the gradient of each of them in its rows."""
    x = rng.normal(size=(2, 3, 2))
    each = replace(loss, reduction="none")
    found = torch.func.jacrev(each)(backend.array(x), backend.array(target)).numpy()
    total = al.value_and_grad(each)(x, target)[1]
    close(found.reshape(-1, *x.shape).sum(axis=0), total)
    value = each(x, target)
    assert found.shape == value.shape + x.shape
    first = np.ndindex(value.shape)
    for place in itertools.islice(first, 4):
        expected = numerical_gradient(lambda x, place=place: float(each(x, target)[place]), x)
        np.testing.assert_allclose(found[place], expected, atol=1e-9)


@torch_only
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
@one_per_class
def test_torch_forward_mode(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample)
    tangents = directions(sample)
    v = like(sample.logits, list(map(backend.array, tangents)))
    _, found = torch.func.jvp(lambda x: case.loss(x, target, **arrays), (logits,), (v,))
    close(found.numpy(), along(tape(case, sample)[1], tangents))


def compiled(torch: Any, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function compiled as one graph, whose calls keep torch's own warnings about tracing to themselves."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run = torch.compile(function, fullgraph=True, **options)

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(*args, **kwargs)

    return quiet


def graphs(torch: Any) -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def torch_gradients(torch: Any, loss: Callable[..., Any], logits: Any, target: Any, arrays: Any) -> list[np.ndarray]:
    """Return the value and the gradients by .backward()."""
    logits = leaves_of(logits)
    value = loss(logits, target, **arrays)
    value.backward()
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in parts(logits)]
    return [value.detach().numpy(), *(g.numpy() for g in gradients)]


def repeated(sample: Sample, images: int) -> Sample:
    """Return a sample of so many images, those given over and over."""

    def repeat(x: np.ndarray) -> np.ndarray:
        return np.resize(x, (images, *x.shape[1:]))

    arrays = {name: repeat(x) for name, x in sample.arrays.items()}
    return Sample(like(sample.logits, map(repeat, sample.parts)), repeat(sample.target), arrays)


@torch_only
@pytest.mark.parametrize("case", MOST[::2], ids=str)
def test_torch_compile(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """With dynamic=True there is one graph for all batch sizes."""
    loss = compiled(torch, case.loss, backend="eager", dynamic=True)
    # No batch size is a size of another axis, which torch would take to be the same number.
    for images in (11, 13):
        sample = repeated(case.make(rng), images)
        found = torch_gradients(torch, loss, *given(backend, sample))
        value, gradients = tape(case, sample)
        for f, e in zip(found, [value, *gradients], strict=True):
            close(f, e)
        assert graphs(torch) == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@torch_only
@some_classes
def test_torch_compile_backward(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """The backward pass is traced too, ahead of time."""
    loss = compiled(torch, case.loss, backend="aot_eager")
    for sample in batch_of(case, rng, 2):
        found = torch_gradients(torch, loss, *given(backend, sample))
        value, gradients = tape(case, sample)
        for f, e in zip(found, [value, *gradients], strict=True):
            close(f, e)
        assert graphs(torch) == 1


@torch_only
@pytest.mark.parametrize("case", MOST[1::6], ids=str)
def test_torch_compile_by_default(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """`value_and_grad`: nothing is compiled anew for the same shapes, once for another batch size, and then no more."""
    loss = compiled(torch, al.value_and_grad(case.loss), backend="eager")
    for images, expected_graphs in ((11, 1), (11, 1), (13, 2), (17, 2)):
        sample = repeated(case.make(rng), images)
        logits, target, arrays = given(backend, sample)
        value, gradients = loss(logits, target, **arrays)
        expected, expected_gradients = tape(case, sample)
        close(value.numpy(), expected)
        for f, e in zip(parts(gradients), expected_gradients, strict=True):
            close(f.numpy(), e)
        assert graphs(torch) == expected_graphs
    assert not torch._dynamo.utils.counters["graph_break"]


@torch_only
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch needs a C++ compiler to generate code for the CPU")
def test_torch_inductor(backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """The code that torch generates, for one loss: compiling it takes longer than all other tests of torch here."""
    case = Case(al.CrossEntropyLoss((0.3, 1.0, 2.0, 5.0)), labels)
    sample = case.make(rng)
    loss = compiled(torch, case.loss)
    found = torch_gradients(torch, loss, *given(backend, sample))
    value, gradients = tape(case, sample)
    for f, e in zip(found, [value, *gradients], strict=True):
        close(f, e, 1e-12)


@torch_only
@every_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_meta_device(case: Case, dtype: str, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """Shapes and dtypes are found where there are no values."""
    logits, target, arrays = given(backend, case.make(rng), dtype)
    logits = like(logits, [x.to("meta") for x in parts(logits)])
    arrays = {name: x.to("meta") for name, x in arrays.items()}
    value, gradients = al.value_and_grad(case.loss)(logits, target.to("meta"), **arrays)
    assert (value.device.type, value.shape, value.dtype) == ("meta", (), torch.float32)
    for g, x in zip(parts(gradients), parts(logits), strict=True):
        assert (g.device.type, g.shape, g.dtype) == ("meta", x.shape, x.dtype)


@torch_only
@one_per_class
def test_torch_autocast(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """Under autocast a loss does with bfloat16, and with float32, exactly what it does outside."""
    for dtype in ("bfloat16", "float32"):
        logits, target, arrays = given(backend, case.make(rng), dtype)
        expected = torch_gradients(torch, case.loss, logits, target, arrays) if dtype == "float32" else None
        value, gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, found_gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
            inside = torch_gradients(torch, case.loss, logits, target, arrays) if expected else None
        assert found.dtype == torch.float32
        assert torch.equal(found, value)
        assert all(map(torch.equal, parts(found_gradients), parts(gradients)))
        if expected:
            for f, e in zip(inside, expected, strict=True):
                np.testing.assert_array_equal(f, e)


@torch_only
def test_torch_autocast_of_a_model(backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """The usual training step: a convolution in bfloat16 under autocast, its loss in float32."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 4, 3, padding=1)
    sample = labels(rng)
    image = torch.randn(2, 3, *sample.target.shape[1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(image)
        value = al.CrossEntropyLoss()(logits, backend.array(sample.target))
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert torch.isfinite(model.weight.grad).all()
    assert model.weight.grad.abs().sum() > 0


def torch_layouts(torch: Any, x: Any) -> Iterator[Any]:
    """Give a tensor in other layouts of the same values."""
    yield torch.repeat_interleave(x, 2, dim=-1)[..., ::2]
    yield x.transpose(0, -1).contiguous().transpose(0, -1)
    if x.ndim == 4:
        yield x.contiguous(memory_format=torch.channels_last)


@torch_only
@every_case
def test_torch_layouts(case: Case, backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, target, arrays = given(backend, sample)
    value, gradients = tape(case, sample)
    for other in zip(*(torch_layouts(torch, x) for x in parts(logits)), strict=True):
        other_target = next(torch_layouts(torch, target))
        assert not other_target.is_contiguous()
        found = torch_gradients(torch, case.loss, like(logits, other), other_target, arrays)
        for f, e in zip(found, [value, *gradients], strict=True):
            close(f, e)


@torch_only
def test_torch_expanded_logits(backend: Backend, torch: Any, rng: np.random.Generator) -> None:
    """Logits that are one image, seen twice through a stride of 0."""
    sample = labels(rng)
    one = np.broadcast_to(sample.logits[:1], sample.logits.shape)
    for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.BCELoss()):
        x = backend.array(sample.logits[:1]).requires_grad_()
        loss(x.expand(*one.shape), backend.array(sample.target)).backward()
        expected = al.value_and_grad(loss)(np.ascontiguousarray(one), sample.target)[1].sum(axis=0, keepdims=True)
        close(x.grad.numpy(), expected)


# NumPy --------------------------------------------------------------------------------------------------------------


def numpy_layouts(x: np.ndarray) -> Iterator[np.ndarray]:
    """Give an array in other layouts of the same values, all read-only."""
    others = [
        np.asfortranarray(x),
        np.repeat(x, 2, axis=-1)[..., ::2],
        np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        np.ascontiguousarray(x[::-1])[::-1],
        np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    ]
    for other in others:
        other = other.view()
        other.flags.writeable = False
        yield other


@numpy_only
@every_case
def test_numpy_layouts(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    value, gradients = tape(case, sample)
    names = list(sample.arrays)
    every = [*sample.parts, sample.target, *sample.arrays.values()]
    for other in zip(*map(numpy_layouts, every), strict=True):
        count = len(sample.parts)
        arrays = dict(zip(names, other[count + 1 :], strict=True))
        varied = Sample(like(sample.logits, other[:count]), other[count], arrays)
        found, found_gradients = tape(case, varied)
        close(found, value, 1e-13)
        for f, e in zip(found_gradients, gradients, strict=True):
            close(f, e, 1e-13)
            assert f.flags.writeable


@numpy_only
def test_numpy_scalars(backend: Backend) -> None:
    """NumPy's scalars are 0-d arrays; results are arrays, never scalars."""
    value, gradient = al.value_and_grad(al.MSELoss())(np.float64(3.0), np.float64(1.0))
    assert isinstance(value, np.ndarray)
    assert isinstance(gradient, np.ndarray)
    assert (value, gradient) == (4.0, 4.0)
    logits = np.asarray([0.5, -1.0, 2.0])
    for target in (np.int64(1), np.asarray(1), np.uint8(1)):
        value = al.CrossEntropyLoss()(logits, target)
        assert isinstance(value, np.ndarray)
        np.testing.assert_allclose(value, np.log(np.exp(logits).sum()) + 1.0)
    for loss in (al.L1Loss(reduction="none"), al.MSELoss(reduction="sum")):
        assert loss(np.float32(1.0), np.float32(1.0)).dtype == np.float32


@numpy_only
def test_numpy_views_of_a_buffer(backend: Backend, rng: np.random.Generator) -> None:
    """A class axis of stride 0: the same score for every class."""
    target = rng.integers(0, 3, size=(2, 7))
    same = np.broadcast_to(rng.normal(size=(2, 1, 7)), (2, 3, 7))
    value, gradient = al.value_and_grad(al.CrossEntropyLoss())(same, target)
    np.testing.assert_allclose(value, np.log(3.0))
    np.testing.assert_allclose(gradient, (1 / 3 - (target[:, None] == np.arange(3)[:, None])) / 14, rtol=1e-12)


def test_the_backends_of_this_file_are_known() -> None:
    """A marker that names no backend would silently run nothing."""
    assert {"jax", "torch", "numpy"} <= set(BACKENDS)

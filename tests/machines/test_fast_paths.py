"""What is faster on one library against the portable form: at sizes that take several blocks, and with it switched off.

The portable form is run by array-api-strict in float64, with arrayloss's own gradients.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from processes import environment, python
from test_contract import once_where_compiled

import arrayloss as al
from arrayloss._machines import namespace

#: Rows of pixels beyond one block of every library, and more classes than are written out one by one.
SHAPES = {
    "few classes": (2, 3, 67, 71),
    "many classes": (2, 41, 67, 71),
    "one image": (1, 5, 9000),
    "many images": (60, 5, 6, 7),
    "no pixels": (40, 7),
}
LOSSES = {
    "cross entropy": al.CrossEntropyLoss(),
    "cross entropy, weighted": al.CrossEntropyLoss(weight=(1.0, 0.5, 2.0), label_smoothing=0.1),
    "BCE of labels": al.BCELoss(),
    "BCE of entries": al.BCELoss(),
    "squared errors of entries": al.MSELoss(),
    "focal": al.FocalLoss(1.5, label_smoothing=0.1),
    "sigmoid focal of labels": al.SigmoidFocalLoss(1.5),
    "sigmoid focal of entries": al.SigmoidFocalLoss(),
    "asymmetric of entries": al.AsymmetricLoss(),
    "absolute errors of entries": al.L1Loss(),
    "smoothed errors of entries": al.SmoothL1Loss(0.2, ignore_index=255),
    "bounded errors of entries": al.HuberLoss(0.2, ignore_index=255),
    "log cosh of entries": al.LogCoshLoss(ignore_index=255),
    "Charbonnier errors of entries": al.CharbonnierLoss(0.1, ignore_index=255),
    "quantiles of entries": al.QuantileLoss(0.2, ignore_index=255),
    "Poisson of entries": al.PoissonNLLLoss(full=True, ignore_index=255),
    "Dice": al.DiceLoss(smooth=1.0),
    "hinge of labels": al.HingeLoss(),
    "squared hinge of entries": al.SquaredHingeLoss(),
    "multi-margin": al.MultiMarginLoss(),
    "multi-margin, squared": al.MultiMarginLoss(2, 3.0),
    "cross entropy of shares": al.CrossEntropyLoss(label_smoothing=0.1),
    "cross entropy of shares, weighted": al.CrossEntropyLoss(weight=(0.0, 0.5, 2.0)),
    "cross entropy, smoothed": al.CrossEntropyLoss(label_smoothing=0.2),
    "focal of shares": al.FocalLoss(1.5),
    "symmetric of shares": al.SymmetricCrossEntropyLoss(),
    "boundary": al.BoundaryLoss(),
    "boundary of each class by itself": al.BoundaryLoss(activation="sigmoid"),
    "Hausdorff": al.HausdorffDTLoss(),
    "relaxed boundary": al.RelaxBoundaryLoss(),
    "Dice, squared": al.DiceLoss(squared=True),
    "Dice of shares of entries": al.DiceLoss(activation="sigmoid"),
    "Tversky of labels, squared": al.TverskyLoss(0.3, 0.7, activation="sigmoid", squared=True),
    "KL of a teacher": al.KLDivLoss(),
    "KL of a teacher, warm": al.KLDivLoss(temperature=3.0),
    "JS of a teacher": al.JSDivLoss(),
    "cross entropy of a teacher, weighted": al.DistillCrossEntropyLoss(weight=(0.0, 0.5, 2.0)),
    "Lovasz-softmax": al.LovaszSoftmaxLoss(),
    "Lovasz-softmax, all classes of each image": al.LovaszSoftmaxLoss(classes="all", per_image=True),
    "Lovasz-softmax, listed": al.LovaszSoftmaxLoss(classes=[2, 0]),
    "Lovasz hinge": al.LovaszHingeLoss(),
    "OHEM": al.OhemCrossEntropyLoss(thresh=0.2, min_kept=40),
    "OHEM, by number": al.OhemCrossEntropyLoss(thresh=0.0, min_kept=3000),
    "connectivity": al.SemanticConnectivityLoss(),
}
#: What a loss takes distances as.
DISTANCES = {
    "boundary": ("distance",),
    "boundary of each class by itself": ("distance",),
    "Hausdorff": ("target_distance", "prediction_distance"),
}
#: The shapes, and the dtype of each, of what is compiled anew for every one: classes written out, and not.
COMPILED = {("few classes", "float64"), ("many classes", "float32")}
#: Those that JAX compiles well: of each way in which its machine sums, one or two.
COMPILED_WELL = {
    "cross entropy",
    "cross entropy of shares, weighted",
    "BCE of labels",
    "focal",
    "Dice",
    "Dice, squared",
    "multi-margin",
    "boundary",
    "KL of a teacher",
    "Lovasz-softmax",
    "OHEM",
}
fast = pytest.mark.backends("numpy", "torch", "jax-jitted", "cupy", "torch-cuda")
torch_only = pytest.mark.backends("torch")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that all of these scenes take several, and no form for small arrays but for the smallest."""
    from arrayloss._machines.numpy import tiles

    monkeypatch.setattr(tiles, "ENTRIES", 1 << 13)
    monkeypatch.setattr(tiles, "CLASSES", 1 << 13)
    monkeypatch.setattr(tiles, "SMALL", 1 << 9)
    if importlib.util.find_spec("torch"):
        from arrayloss._machines.torch import host

        monkeypatch.setattr(host, "_SMALL", 1 << 9)


def scene(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits that are half right, a target of which some is ignored and NaN, and further arrays of the call."""
    classes = 1 if name == "Lovasz hinge" else shape[1]
    labels = rng.integers(0, max(classes, 2), (shape[0], *shape[2:]))
    logits = rng.normal(size=(shape[0], classes, *shape[2:])) * 2
    logits += 2.0 * (labels[:, None] == np.arange(classes).reshape(1, -1, *(1,) * (len(shape) - 2)))
    ignored = rng.random(labels.shape) < 0.1
    labels[ignored] = 255
    logits.transpose((0, *range(2, logits.ndim), 1))[ignored] = np.nan
    if name.endswith("entries"):
        target = rng.random(logits.shape)
        target[rng.random(target.shape) < 0.3] = 0.0
        target[np.isnan(logits)] = 255.0
        return logits, target, {}
    if "of shares" in name:
        shares = rng.random(logits.shape) * (rng.random(logits.shape) < 0.7)
        return np.nan_to_num(logits), shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9), {}
    if name in DISTANCES:
        distances = (np.where(np.isnan(logits), np.nan, rng.exponential(size=logits.shape)) for _ in DISTANCES[name])
        return logits, labels, dict(zip(DISTANCES[name], distances, strict=True))
    if "teacher" in name:
        teacher = rng.normal(size=logits.shape) * 2
        teacher[:, 1][rng.random(labels.shape) < 0.001] = -np.inf  # in some blocks, not in all
        teacher[np.isnan(logits)] = np.nan
        return logits, teacher, {"labels": labels}
    return logits, labels, {}


@fast
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LOSSES)
def test_against_the_portable_form(
    name: str, shape: str, dtype: str, backend: Backend, rng: np.random.Generator
) -> None:
    loss = LOSSES[name]
    if getattr(loss, "weight", None) is not None and SHAPES[shape][1] != 3:
        loss = replace(loss, weight=tuple(rng.random(SHAPES[shape][1])))
    logits, target, arrays = scene(name, SHAPES[shape], rng)
    if name == "relaxed boundary" and logits.ndim != 4:
        pytest.skip("a loss of images")
    if backend.compiles and (shape, dtype) not in COMPILED:
        pytest.skip("compiled to the same program as another shape or dtype")
    logits = logits.astype(dtype)
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    given, more = (backend.array(logits), backend.array(target)), {k: backend.array(x) for k, x in arrays.items()}
    value, gradient = map(backend.numpy, backend.value_and_grad(loss, *given, **more))

    strict = BACKENDS["strict"]
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (logits, target)]
    wide_arrays = {k: strict.array(x) for k, x in arrays.items()}
    expected, slope = map(strict.numpy, al.value_and_grad(loss)(*map(strict.array, wide), **wide_arrays))
    close = 1e-11 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(value, expected, rtol=close)
    if dtype == "float64" or "Lovasz" not in name:
        np.testing.assert_allclose(gradient, slope, rtol=close, atol=close * np.abs(slope).max())
    # In float32 errors that differ by rounding change places, and with them their weights: see test_kernels.py.
    far = np.linalg.norm(gradient - slope) / np.linalg.norm(slope)
    assert far < (1e-11 if dtype == "float64" else 1e-2)
    # Without a gradient another way is taken, which compiles in float64 alone.
    if not backend.compiles or dtype == "float64":
        np.testing.assert_allclose(backend.numpy(backend.value(loss, *given, **more)), value, rtol=1e-6)
    np.testing.assert_array_equal(backend.numpy(given[0]), logits)


@fast
@pytest.mark.parametrize("entries", [False, True])
def test_binary_losses_of_infinite_scores(entries: bool, backend: Backend, rng: np.random.Generator) -> None:
    """Infinities on the right side cost nothing, one on the wrong side costs everything; gradients stay finite."""
    labels = rng.integers(0, 3, (2, 70, 80))
    y = (labels[:, None] == np.arange(3).reshape(1, 3, 1, 1)).astype(np.float64)
    logits = rng.normal(size=y.shape)
    logits[:, :, 5:9] = np.where(y, np.inf, -np.inf)[:, :, 5:9]
    target = backend.array(y if entries else labels)
    x = np.clip(logits, -1e3, 1e3)
    expected = np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))))
    value, gradient = map(backend.numpy, backend.value_and_grad(al.BCELoss(), backend.array(logits), target))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, ((1 + np.tanh(x / 2)) / 2 - y) / y.size, rtol=1e-9, atol=1e-15)
    logits[0, 0, 0, 0] = np.where(y[0, 0, 0, 0], -np.inf, np.inf)
    value, gradient = map(backend.numpy, backend.value_and_grad(al.BCELoss(), backend.array(logits), target))
    assert value == np.inf
    assert np.isfinite(gradient).all()


#: Of each kind of target, losses of confident scores that the cross entropy of single scores is in.
CONFIDENT = {
    "labels": [
        al.BCELoss(),
        al.BCELoss(pos_weight=2.0),
        al.BCEDiceLoss(1.0, 0.0),
        al.SigmoidFocalLoss(0.5),
        al.AsymmetricLoss(1.0, 0.5, 0.0),
        al.RMILoss(bce_weight=1.0, radius=1, stride=1),
    ],
    "entries": [
        al.BCELoss(),
        al.BCELoss(pos_weight=2.0),
        al.BCEDiceLoss(1.0, 0.0),
        al.SigmoidFocalLoss(0.5),
        al.AsymmetricLoss(1.0, 0.5, 0.0),
        al.HingeLoss(),
        al.SquaredHingeLoss(),
    ],
    "shares": [al.BCELoss(), al.SigmoidFocalLoss(0.5), al.RMILoss(bce_weight=1.0, radius=1, stride=1)],
    "details": [al.DetailAggregateLoss(threshold=0.0)],
    "scenes": [al.SECrossEntropyLoss()],
}


def confident(kind: str, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Float32 scores of 10 to 16 on the right side, and a target."""
    shape = (2, 1 if kind == "details" else 3, side, side)
    labels = rng.integers(0, 3, (2, side, side))
    y = (labels[:, None] == np.arange(3).reshape(3, 1, 1)).astype(np.float32)
    size = rng.uniform(10.0, 16.0, shape).astype(np.float32)
    if kind == "labels":
        return np.where(y > 0.0, size, -size), labels
    if kind == "scenes":
        return np.full((2, 3), 12.0, dtype=np.float32) * size[:, :, 0, 0] / 10, np.broadcast_to(labels, labels.shape)
    if kind == "details":
        return np.where(al.detail_targets(labels, 0.0)[:, None] > 0, size, -size), labels
    if kind == "shares":
        share = rng.choice([1e-6, 1e-3, 1e-2], shape)
        return np.where(y > 0.0, size, -size), np.where(y > 0.0, 1.0 - share, share).astype(np.float32)
    return np.where(y > 0.0, size, -size), y


@pytest.mark.backends("numpy", "strict", "torch", "jax-jitted", "cupy", "torch-cuda")
@pytest.mark.parametrize("side", [3, 160])
@pytest.mark.parametrize(("kind", "loss"), [(k, x) for k, losses in CONFIDENT.items() for x in losses], ids=str)
def test_confident_scores_keep_their_digits(
    kind: str, loss: al.Loss, side: int, backend: Backend, rng: np.random.Generator
) -> None:
    """What is left of a loss where the score is large and right is right to rounding, not a difference of large ones.

    Gradients are right beside a loss of the other side; of labels, by themselves.
    """
    once_where_compiled(backend, side, 160)  # there is no form for small arrays
    logits, target = confident(kind, side, rng)
    wide = target.astype(np.float64) if target.dtype.kind == "f" else target
    expected, slope = al.value_and_grad(loss)(logits.astype(np.float64), wide)
    given = backend.array(logits), backend.array(target)
    value, gradient = map(backend.numpy, backend.value_and_grad(loss, *given))
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    np.testing.assert_allclose(backend.numpy(backend.value(loss, *given)), expected, rtol=2e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5 if kind == "labels" else 0, atol=1e-6 / slope.size)


@fast
@pytest.mark.parametrize("name", LOSSES)
def test_wrong_at_one_valid_position(name: str, backend: Backend, rng: np.random.Generator) -> None:
    """A NaN that counts reaches the value from whichever block it lies in."""
    logits, target, arrays = scene(name, SHAPES["few classes"], rng)
    valid = np.argwhere(np.isfinite(logits))
    logits[tuple(valid[len(valid) // 2])] = np.nan
    more = {k: backend.array(x) for k, x in arrays.items()}
    value = backend.value(LOSSES[name], backend.array(logits), backend.array(target), **more)
    assert np.isnan(backend.numpy(value))


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("name", LOSSES)
def test_results_do_not_depend_on_the_number_of_threads(name: str, backend: Backend, rng: np.random.Generator) -> None:
    from arrayloss._machines.numpy import tiles

    logits, target, arrays = scene(name, SHAPES["few classes"], rng)
    given, more = map(backend.array, (logits, target)), {k: backend.array(x) for k, x in arrays.items()}
    run = partial(backend.value_and_grad, LOSSES[name], *given, **more)
    found = []
    for number in (1, 2, 5):
        if backend.name == "torch":
            import torch

            torch.set_num_threads(number)
        with tiles.threads(number):
            found.append(list(map(backend.numpy, run())))
    if backend.name == "torch":
        torch.set_num_threads(1)
    # torch's own sums depend on them.
    close = 0 if backend.name == "numpy" else 1e-12
    for value, gradient in found[1:]:
        np.testing.assert_allclose(value, found[0][0], rtol=close)
        np.testing.assert_allclose(gradient, found[0][1], rtol=close, atol=close)


# torch's own rules ---------------------------------------------------------------------------------------------------


def leaf(shape: str, name: str, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return logits that want a gradient, a target, and the loss with the further arrays of its call bound."""
    import torch

    logits, target, arrays = scene(name, SHAPES[shape], rng)
    loss = partial(LOSSES[name], **{k: torch.tensor(x) for k, x in arrays.items()})
    return torch.tensor(np.nan_to_num(logits), requires_grad=True), torch.tensor(target), loss


@torch_only
@pytest.mark.parametrize("name", LOSSES)
def test_backward_twice_is_the_same(name: str, backend: Backend, rng: np.random.Generator) -> None:
    import torch

    x, target, loss = leaf("few classes", name, rng)
    value = loss(x, target)
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(first, kept, rtol=0, atol=0)
    torch.testing.assert_close(second, kept, rtol=0, atol=0)


@torch_only
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("name", LOSSES)
def test_rules_and_native_autograd_agree(
    name: str, backend: Backend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value, gradient, gradient of the gradient and forward mode, with the rules and without."""
    import torch
    from torch.autograd import forward_ad

    x, target, loss = leaf("few classes", name, rng)
    direction = torch.tensor(rng.normal(size=x.shape))
    found = []
    for portable in (False, True):
        monkeypatch.setattr(namespace, "PORTABLE", portable)
        value = loss(x, target)
        (plain,) = torch.autograd.grad(value, x, retain_graph=True)
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        curve = torch.autograd.grad((slope * direction).sum(), x)[0] if slope.requires_grad else torch.zeros_like(x)
        with forward_ad.dual_level():
            forward = forward_ad.unpack_dual(loss(forward_ad.make_dual(x.detach(), direction), target)).tangent
        torch.testing.assert_close(forward, (plain * direction).sum())
        found.append((value.detach(), plain, slope.detach(), curve))
    torch.testing.assert_close(*found)


@torch_only
@pytest.mark.parametrize("name", ["BCE of entries", "cross entropy", "Dice"])
def test_logits_changed_before_the_way_back_are_noticed(name: str, backend: Backend, rng: np.random.Generator) -> None:
    x, target, loss = leaf("few classes", name, rng)
    scores = x * 1.0
    value = loss(scores, target)
    scores.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@torch_only
def test_two_losses_of_the_same_logits(backend: Backend, rng: np.random.Generator) -> None:
    import torch

    x, target, _ = leaf("few classes", "Dice", rng)
    losses = [LOSSES[name] for name in ("cross entropy", "Dice", "Lovasz-softmax", "OHEM")]
    (together,) = torch.autograd.grad(sum(loss(x, target) for loss in losses), x)
    apart = [torch.autograd.grad(loss(x, target), x)[0] for loss in losses]
    torch.testing.assert_close(together, sum(apart))


# The host's sort under JAX -------------------------------------------------------------------------------------------

_ONE_CORE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
import arrayloss as al
rng = np.random.default_rng(0)
logits = jnp.asarray(rng.normal(size=(2, 4, 96, 96)).astype(np.float32))
labels = jnp.asarray(rng.integers(0, 4, (2, 96, 96)))
step = jax.jit(lambda x: x - 0.1 * jax.grad(al.LovaszSoftmaxLoss())(x, labels))
x = logits
for _ in range(300):  # launched without waiting for one another
    x = step(x)
def body(x, _):
    return step(x), al.lovasz_hinge_loss(x[:, :1], (labels > 1).astype(jnp.int32))
scanned, _ = jax.jit(lambda x: jax.lax.scan(body, x, None, length=50))(logits)
one_by_one = logits
for _ in range(50):
    one_by_one = step(one_by_one)
np.testing.assert_allclose(scanned, one_by_one, atol=1e-5)
batch = jax.jit(jax.vmap(al.LovaszSoftmaxLoss()))(logits[:, None], labels[:, None])
np.testing.assert_allclose(batch, [al.lovasz_softmax_loss(a[None], b[None]) for a, b in zip(logits, labels)], rtol=1e-5)
print(bool(jnp.isfinite(x).all()))
"""


@pytest.mark.backends("jax")
def test_the_host_sorts_for_jax_on_one_core(backend: Backend) -> None:
    """Hundreds of asynchronous steps, in a loop, a scan and a vmap, on one core: nothing waits for itself."""
    answer = subprocess.run([sys.executable, "-c", _ONE_CORE], capture_output=True, text=True, timeout=240, check=False)
    assert (answer.stdout.strip(), answer.returncode) == ("True", 0), answer.stderr


_PORTABLE = """
import numpy as np, sys
import arrayloss as al
from arrayloss._machines import generic, namespace
from arrayloss._core.library import library_of
assert namespace.PORTABLE
if sys.argv[1] == "numpy":
    assert library_of(np.zeros(1)).kernels.lovasz_softmax is generic.KERNELS.lovasz_softmax
    make = np.asarray
elif sys.argv[1] == "torch":
    import torch
    make = torch.tensor
else:
    import jax
    make = jax.numpy.asarray
rng = np.random.default_rng(0)
logits, labels = make(rng.normal(size=(2, 4, 30)).astype(np.float32)), make(rng.integers(0, 4, (2, 30)))
for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.LovaszSoftmaxLoss(), al.OhemCrossEntropyLoss(min_kept=20)):
    value, gradient = al.value_and_grad(loss)(logits, labels)
    print(float(value), *np.asarray(gradient).ravel()[:20].tolist())
"""


@pytest.mark.backends("numpy", "torch", "jax")
def test_the_environment_switches_them_off(backend: Backend, tmp_path: Path) -> None:
    found = []
    for portable in ("0", "1"):
        variables = environment(ARRAYLOSS_PORTABLE=portable)
        code = (
            _PORTABLE
            if portable == "1"
            else _PORTABLE.replace("assert namespace.PORTABLE", "").replace(" is ", " is not ")
        )
        answer = python("-c", code, backend.name, cwd=tmp_path, env=variables)
        assert answer.returncode == 0, answer.stderr
        found.append([float(number) for number in answer.stdout.split()])
    np.testing.assert_allclose(*found, rtol=2e-5, atol=1e-7)

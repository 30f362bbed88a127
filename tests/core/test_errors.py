"""What is said to a person who errs: options by other names, forgotten parentheses, arrays that do not go together."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
import time
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import CASES, FIRST, LABELLED, OTHER_SIZES, Case
from test_contract import to_backend

import arrayloss as al
from arrayloss._core.options import has_check

every_case = pytest.mark.parametrize("case", CASES, ids=str)
LOSSES = sorted((type(case.loss) for case in FIRST), key=lambda loss: loss.__name__)
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
x, y = np.zeros((2, 3, 4, 5)), np.zeros((2, 4, 5), dtype=np.int64)


def message(error: type[Exception], call: Any) -> str:
    with pytest.raises(error) as found:
        call()
    return str(found.value)


def required(loss: type[al.Loss]) -> str:
    return ", ".join(f"{f.name}=..." for f in dataclasses.fields(loss) if f.default is dataclasses.MISSING)


# Options ------------------------------------------------------------------------------------------------------------

#: What people pass, having used another library.
PEERS = (
    "from_logits mode to_onehot_y include_bg size_average reduce gamma_neg gamma_pos gamma ignore_label "
    "ignore_value ignored_index ignore_class class_weight class_weights weights ce_weight num_classes sigmoid "
    "softmax other_act use_sigmoid jaccard smooth_nr smooth_dr smooth_factor eps squared_pred dim class_axis "
    "axis log_loss loss_weight loss_name average label_smooth label_smoothing smoothing sample_weight mask "
    "where valid_mask lambda_bce lambda_ce lambda_dice alpha beta delta epsilon do_bg batch_dice apply_nonlin "
    "w_type top_k k temperature T tau thresh threshold min_kept per_sample classes data_format device dtype "
    "name log_target normalized avg_non_ignore reduction_override pos_weight weight smoth redaction "
    "ignoreindex"
)


@every_loss
def test_an_unknown_option_is_named_with_what_there_is(loss: type[al.Loss]) -> None:
    function = loss.function
    parameters = set(inspect.signature(function).parameters)
    fields = {f.name for f in dataclasses.fields(loss)}
    options = {f.name: 1 for f in dataclasses.fields(loss) if f.default is dataclasses.MISSING}
    for name in PEERS.split():
        for known, call, label in (
            (parameters, lambda name=name: function(x, y, **options, **{name: 1}), function.__name__),
            (fields, lambda name=name: loss(**options, **{name: 1}), loss.__name__),
        ):
            if name in known:
                continue
            said = message(TypeError, call)
            assert said.startswith(f"{label}: no option {name!r}")
            assert said.endswith(f"its options are {', '.join(n for n in known_in_order(loss, known))}")
            # A hint names options of this very function.
            assert set(re.findall(r"(\w+)=", said)) <= parameters, said


def known_in_order(loss: type[al.Loss], known: set[str]) -> list[str]:
    fields = [f.name for f in dataclasses.fields(loss)]
    names = fields if known == set(fields) else list(inspect.signature(loss.function).parameters)
    return [name for name in names if name not in ("logits", "target")]


HINTS = [
    (al.dice_loss, "from_logits", "activation=None takes probabilities"),
    (al.dice_loss, "smoth", "smooth="),
    (al.dice_loss, "ignore_label", "ignore_index="),
    (al.dice_loss, "include_bg", "include_background="),
    (al.dice_loss, "smooth_nr", "smooth="),
    (al.dice_loss, "squared_pred", "squared="),
    (al.dice_loss, "jaccard", "jaccard_loss"),
    (al.dice_loss, "class_weight", "weight="),
    (al.dice_loss, "y_true", "target="),
    (al.dice_loss, "mask", "ignore_index="),
    (al.dice_loss, "sigmoid", "activation="),
    (al.cross_entropy_loss, "from_logits", "takes logits"),
    (al.cross_entropy_loss, "sample_weight", "pixel_weight="),
    (al.cross_entropy_loss, "dim", "axis="),
    (al.cross_entropy_loss, "label_smooth", "label_smoothing="),
    (al.cross_entropy_loss, "use_sigmoid", "applies its own"),
    (al.focal_loss, "gamma_neg", "gamma="),
    (al.asymmetric_loss, "gamma", "gamma_neg="),
    (al.dice_ce_loss, "lambda_bce", "lambda_ce="),
    (al.bce_dice_loss, "lambda_ce", "lambda_bce="),
    (al.quantile_loss, "alpha", "quantile="),
    (al.huber_loss, "beta", "delta="),
    (al.charbonnier_loss, "eps", "epsilon="),
    (al.mixed_loss, "ignore_index", "one of the losses"),
    (al.l1_loss, "size_average", '"mean" or "sum"'),
]


@pytest.mark.parametrize(("function", "option", "hint"), HINTS, ids=[f"{f.__name__}-{o}" for f, o, _ in HINTS])
def test_the_name_that_a_peer_has_for_an_option(function: Any, option: str, hint: str) -> None:
    assert hint in message(TypeError, lambda: function(x, y, **{option: 1}))


def test_arrays_of_the_call_are_no_options_of_the_object() -> None:
    said = message(TypeError, lambda: al.CrossEntropyLoss(pixel_weight=y))
    assert said.startswith("CrossEntropyLoss: no option 'pixel_weight' (pixel_weight= is given in the call")
    said = message(TypeError, lambda: al.DiceLoss()(x, y, smooth=1.0))
    assert said.startswith("DiceLoss: smooth is an option of the object, expected smooth= where it is made")


@every_loss
def test_options_go_by_keyword(loss: type[al.Loss]) -> None:
    function = loss.function
    said = message(TypeError, lambda: function(x, y, 255))
    assert said.startswith(f"{function.__name__}: 3 arguments by position, expected 2 (logits, target); options go by")
    assert all(f"{f.name}=" in said for f in dataclasses.fields(loss))


def test_other_functions_have_no_options_of_other_names() -> None:
    assert "ignore_index=" in message(TypeError, lambda: al.label_edges(y, ignore_label=0))
    assert "classes=" in message(TypeError, lambda: al.distance_map(y, num_classes=3))
    assert "(target, threshold, ignore_index)" in message(TypeError, lambda: al.detail_targets(y, 0.1, 255, 3))


def test_options_by_position_are_checked() -> None:
    labels = np.zeros((1, 4, 4), dtype=np.int64)
    with pytest.raises(ValueError, match=r"^detail_targets: threshold is 1.5, expected a number in \[0, 1\]"):
        al.detail_targets(labels, 1.5)
    with pytest.raises(TypeError, match=r"^detail_targets: ignore_index is 255.0, expected an integer, or None"):
        al.detail_targets(labels, 0.1, 255.0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(al.detail_targets(labels, np.float32(0.5), 255), 0)  # type: ignore[arg-type]


def test_values_are_shown_short() -> None:
    for value in (np.zeros((300, 300)), "a" * 10_000, list(range(10_000)), [[0.0] * 1000] * 1000, {"a": [0] * 1000}):
        for option in ("smooth", "reduction", "ignore_index"):
            said = message((TypeError, ValueError), lambda o=option, v=value: al.dice_loss(x, y, **{o: v}))
            assert len(said) < 400
    said = message(TypeError, lambda: al.dice_loss(x, y, smooth=x))
    assert (
        said == "dice_loss: smooth is an array of shape (2, 3, 4, 5) of numpy, expected a finite number of at least 0"
    )


# Forgotten parentheses ----------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.backends("numpy", "strict", "strict-device1", "torch", "jax", "cupy")
def test_a_loss_class_called_like_a_loss(loss: type[al.Loss], backend: Backend) -> None:
    case = next(case for case in FIRST if type(case.loss) is loss)
    logits, target, _ = to_backend(backend, case.make(np.random.default_rng(0)))
    call = rf"{loss.__name__}\({re.escape(required(loss))}\)\(logits, target\)"
    calls = [lambda: loss(logits, target), lambda: loss(logits=logits, target=target)]
    if loss is not al.BCELoss:  # whose weight may be an array of the rank of the logits
        calls.append(lambda: loss(logits))
    for forgotten in calls:
        with pytest.raises(TypeError, match=rf"^{loss.__name__}: .*a loss object is made .*: {call}"):
            forgotten()


def test_a_forgotten_call_reads_nothing() -> None:
    logits = np.broadcast_to(np.zeros(1), (64, 19, 2048, 2048))
    start = time.perf_counter()
    for loss in (al.DiceLoss, al.CrossEntropyLoss, al.L1Loss, al.MixedLoss, al.DualTaskLoss):
        assert len(message(TypeError, lambda loss=loss: loss(logits, logits))) < 300
    assert time.perf_counter() - start < 1.0
    said = message(TypeError, lambda: al.value_and_grad(al.DiceLoss)(x, y))
    assert said.endswith("DiceLoss()(logits, target)")


def test_a_weight_that_is_refused_may_be_the_logits() -> None:
    said = message(ValueError, lambda: al.BCELoss(x * np.nan))
    assert said.startswith("bce_loss: weight is nan")
    assert said.endswith("BCELoss()(logits, target)")


@pytest.mark.backends("numpy", "strict", "strict-device1", "torch", "jax", "cupy")
def test_arrays_that_are_options(backend: Backend) -> None:
    one, three, whole = (backend.array(np.asarray(v)) for v in (2.0, [0.5, 1.0, 2.0], np.full((1, 3, 1, 5), 0.5)))
    assert al.CrossEntropyLoss(three) == al.CrossEntropyLoss(weight=three) == al.CrossEntropyLoss([0.5, 1.0, 2.0])
    assert al.FocalLoss(one, three) == al.FocalLoss(2.0, (0.5, 1.0, 2.0))
    assert al.DiceLoss(smooth=one) == al.DiceLoss(smooth=2.0)
    assert al.BCELoss(three, three) == al.BCELoss((0.5, 1.0, 2.0), (0.5, 1.0, 2.0))
    assert al.BCELoss(whole, one) == al.BCELoss(np.full((1, 3, 1, 5), 0.5).tolist(), 2.0)
    assert al.MixedLoss([al.L1Loss()] * 3, three).coef == (0.5, 1.0, 2.0)
    for option, value in {"weight": whole, "smooth": three}.items():
        with pytest.raises(TypeError, match=rf"^dice_loss: {option} is an array of shape \([\d, ]+\) of .*, expected "):
            al.DiceLoss(**{option: value})


# Shapes -------------------------------------------------------------------------------------------------------------

LABEL_CASES = [c for c in FIRST if c.make.__name__ in (LABELLED | {"label_map", "detailed"}) - {"taught_labels"}]
SHAPED = [c for c in LABEL_CASES if c.make.__name__ not in OTHER_SIZES]


@pytest.mark.parametrize("case", LABEL_CASES, ids=str)
def test_swapped_arguments(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    logits, target, arrays = to_backend(backend, case.make(rng))
    write = (
        r"(\w+_loss)\(logits, target\)"
        if isinstance(case.loss, al.MixedLoss)
        else rf"{case.function}\(logits, target\)"
    )
    with pytest.raises(TypeError, match=rf"come first.*{write}"):
        case.loss(target, logits, **arrays)


@pytest.mark.parametrize("case", SHAPED, ids=str)
def test_swapped_arguments_by_their_shapes(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, _, arrays = to_backend(backend, sample)
    if isinstance(logits, tuple) or arrays:
        return
    labels = backend.array(sample.target.astype(np.float64))
    with pytest.raises(
        ValueError, match=r"; the scores come first: were they swapped\? Write \w+_loss\(logits, target\)"
    ):
        case.loss(labels, logits)


@pytest.mark.parametrize("case", SHAPED, ids=str)
def test_one_image_without_a_batch_axis(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    logits, target, arrays = to_backend(backend, sample)
    if sample.parts[0].shape[1] == sample.target.shape[1]:
        return  # as many classes as rows: it fits
    one = tuple(part[0, ...] for part in logits) if isinstance(logits, tuple) else logits[0, ...]
    arrays = {name: value[0, ...] for name, value in arrays.items()}
    with pytest.raises(
        ValueError, match=r"one image has a batch axis too: write logits(\[\d\])?\[None\], target\[None\]"
    ):
        case.loss(one, target[0, ...], **arrays)


@pytest.mark.parametrize("case", SHAPED, ids=str)
def test_classes_on_the_last_axis(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    moved = dataclasses.replace(
        sample,
        logits=tuple(np.moveaxis(part, 1, -1) for part in sample.parts)
        if isinstance(sample.logits, tuple)
        else np.moveaxis(sample.logits, 1, -1),
    )
    logits, target, arrays = to_backend(backend, moved)
    with pytest.raises(ValueError, match=r"where the classes are on the last axis, write axis=-1$"):
        case.loss(logits, target, **arrays)


def test_other_shapes_that_tell() -> None:
    one = message(ValueError, lambda: al.dice_loss(np.zeros((4, 5, 3)), y[0]))
    assert one.endswith("write axis=-1; one image has a batch axis too: logits[None], target[None]")
    assert message(ValueError, lambda: al.dice_loss(x[:1], y[0])).endswith("write target[None]")
    assert "target are on its last axis" in message(ValueError, lambda: al.dice_loss(x, np.moveaxis(x, 1, -1)))
    said = message(ValueError, lambda: al.l1_loss(np.zeros((7, 1)), np.zeros(7)))
    assert said.endswith("shapes are not broadcast; write target.reshape((7, 1))")
    assert message(ValueError, lambda: al.dice_loss(x, y[..., :-1])).endswith("for probabilities or a one-hot form")


# What is no array ---------------------------------------------------------------------------------------------------


class Output(dict[str, Any]):
    """What models of Hugging Face return."""

    @property
    def logits(self) -> Any:
        return self["logits"]


NO_ARRAYS = [
    (Output(logits=x), r"output of a model, which holds them: pass logits\.logits"),
    ({"out": x, "aux": x}, r"pass what it holds under a key, of 'out', 'aux'"),
    ({}, "it is empty"),
    ("logits.npy", "a string is no data"),
    (None, "nothing came: is logits missing"),
    (np.ma.array(x), r"pass logits\.data, and where it is masked ignore_index"),
    ([x, x], "it holds arrays: pass one of them"),
    ((x, x), "it holds arrays: pass one of them"),
    (np.tanh, "pass what it returns"),
    (x.tolist(), r"convert it first, for instance with numpy\.asarray\(logits\)"),
    (object(), r"convert it first, for instance with numpy\.asarray\(logits\)"),
]


@pytest.mark.parametrize(("logits", "advice"), NO_ARRAYS, ids=[type(x).__name__ for x, _ in NO_ARRAYS])
def test_advice_for_what_is_no_array(logits: Any, advice: str) -> None:
    said = message(TypeError, lambda: al.dice_loss(logits, y))
    assert re.search(rf"^dice_loss: logits is a [\w.]+, expected an array of NumPy.*; .*{advice}", said)
    assert ("asarray" in said) == ("asarray" in advice)


def test_masked_labels() -> None:
    assert "target.filled(ignore_index)" in message(TypeError, lambda: al.dice_loss(x, np.ma.array(y)))


@pytest.mark.backends("numpy", "torch", "jax")
def test_lists_are_converted_to_the_library_of_the_other_argument(backend: Backend) -> None:
    write = {"numpy": "numpy.asarray", "torch": "torch.as_tensor", "jax": "jax.numpy.asarray"}[backend.name]
    assert message(TypeError, lambda: al.dice_loss(backend.array(x), y.tolist())).endswith(f"{write}(target)")
    assert message(TypeError, lambda: al.dice_loss(x.tolist(), backend.array(y))).endswith(f"{write}(logits)")


# NumPy's warnings ---------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.backends("numpy", "strict")
def test_a_loss_does_not_raise_where_numpy_is_told_to(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    ordinary = case.make(rng)
    small = case.options.get("activation", "softmax") is None or case.make.__name__ in ("rates", "counts")
    for scale, dtype in itertools.product((1.0,) if small else (1.0, 1e3), ("float64", "float32")):
        first = ordinary.parts[0] * scale
        several = isinstance(ordinary.logits, tuple)
        sample = dataclasses.replace(ordinary, logits=(first, *ordinary.parts[1:]) if several else first)
        logits, target, arrays = to_backend(backend, sample, dtype)
        with np.errstate(all="raise"):
            value = case.loss(logits, target, **arrays)
            by_function = type(case.loss).function(logits, target, **vars(case.loss), **arrays)
            again, _ = al.value_and_grad(case.loss)(logits, target, **arrays)
            assert np.geterr() == dict.fromkeys(("divide", "over", "under", "invalid"), "raise")
        rounding = 1e-12 if dtype == "float64" else 1e-5
        for other in (by_function, again):
            np.testing.assert_allclose(backend.numpy(value), backend.numpy(other), rtol=rounding)


def test_functions_of_labels_do_not_raise_where_numpy_is_told_to() -> None:
    with np.errstate(all="raise"):
        al.label_edges(y)
        al.detail_targets(y)
        al.distance_map(y, 3)


def test_the_users_own_code_is_warned() -> None:
    def own(logits: Any, target: Any) -> Any:
        return al.dice_loss(logits, target) + (logits * 1e-300 * 1e-300).__array_namespace__().sum(logits * 1e-300)

    small = x + 1e-200
    with np.errstate(all="raise"):
        for call in (
            lambda: al.value_and_grad(own)(small, y),
            lambda: al.MixedLoss([lambda logits, target: np.exp(-1e4 * (logits + 1))], [1.0])(x, y),
        ):
            with pytest.raises(FloatingPointError):
                call()


# Losses of the user's own on NumPy ----------------------------------------------------------------------------------

NUMPY_FUNCTIONS = [
    (lambda a, t: np.log(a), lambda xp, a, t: xp.log(a)),
    (lambda a, t: np.mean(a), lambda xp, a, t: xp.mean(a)),
    (lambda a, t: np.sum(a, 0), lambda xp, a, t: xp.sum(a, axis=0)),
    (lambda a, t: np.max(a, axis=1, keepdims=True), lambda xp, a, t: xp.max(a, axis=1, keepdims=True)),
    (lambda a, t: np.where(a > t, a, 0.5), lambda xp, a, t: xp.where(a > t, a, 0.5 * t / t)),
    (lambda a, t: np.maximum(t, a), lambda xp, a, t: xp.maximum(t, a)),
    (lambda a, t: np.absolute(a - t), lambda xp, a, t: xp.abs(a - t)),
    (lambda a, t: np.power(a, 2), lambda xp, a, t: a**2),
    (lambda a, t: np.arctan2(a, t), lambda xp, a, t: xp.atan2(a, t)),
    (lambda a, t: np.concatenate([a, t], axis=0), lambda xp, a, t: xp.concat([a, t], axis=0)),
    (lambda a, t: np.stack([t, a], 1), lambda xp, a, t: xp.stack([t, a], axis=1)),
    (lambda a, t: np.clip(a, 0.6, 1.2), lambda xp, a, t: xp.clip(a, 0.6, 1.2)),
    (lambda a, t: np.reshape(a, (-1,)), lambda xp, a, t: xp.reshape(a, (-1,))),
    (lambda a, t: np.squeeze(np.expand_dims(a, 0), 0), lambda xp, a, t: a),
    (lambda a, t: t + a, lambda xp, a, t: a + t),
    (lambda a, t: t - a * np.float32(2), lambda xp, a, t: -(a * 2.0) + t),
    (lambda a, t: t / a, lambda xp, a, t: a**-1 * t),
    (lambda a, t: t @ a.T, lambda xp, a, t: xp.matmul(t, xp.permute_dims(a, (1, 0)))),
    (lambda a, t: (t < a) * a, lambda xp, a, t: (a > t) * a),
]


@pytest.mark.parametrize(("by_numpy", "by_standard"), NUMPY_FUNCTIONS, ids=range(len(NUMPY_FUNCTIONS)))
def test_functions_of_numpy_are_recorded(by_numpy: Any, by_standard: Any, rng: np.random.Generator) -> None:
    a, t = rng.random((3, 4)) + 0.5, rng.random((3, 4)) + 0.5

    def standard(a: Any, t: Any) -> Any:
        return by_standard(a.__array_namespace__(), a, t)

    value, gradient = al.value_and_grad(by_numpy)(a, t)
    expected, slopes = al.value_and_grad(standard)(a, t)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-14)


def test_a_total_that_is_added_to_in_place() -> None:
    def loss(logits: Any, target: Any) -> Any:
        total = np.zeros(logits.shape)
        total += logits * 2.0
        total -= target
        return total

    value, gradient = al.value_and_grad(loss)(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(value, 1.0)
    np.testing.assert_array_equal(gradient, 2.0)


INSTEAD = [
    (lambda a: a.mean(), AttributeError, r"have no mean .*write xp\.mean\(\.\.\.\)"),
    (lambda a: a.sum(axis=0), AttributeError, r"write xp\.sum\("),
    (lambda a: a.reshape(-1), AttributeError, r"write xp\.reshape\("),
    (lambda a: a.transpose(), AttributeError, r"write xp\.permute_dims\("),
    (lambda a: a.item(), AttributeError, r"have no item .*write it in functions of xp"),
    (lambda a: np.std(a), TypeError, r"numpy\.std is not recorded.*functions of xp"),
    (lambda a: np.cumsum(a), TypeError, r"write xp\.cumulative_sum\("),
    (lambda a: np.squeeze(a), TypeError, r"write xp\.squeeze\("),
    (lambda a: np.reshape(a, (4, 3), order="F"), TypeError, r"write xp\.reshape\("),
    (lambda a: np.sum(a, where=a > 1), TypeError, r"write xp\.sum\("),
    (lambda a: np.exp(a, out=np.zeros((3, 4))), TypeError, r"numpy\.exp with such arguments .*write xp\.exp\("),
    (lambda a: np.add.reduce(a), TypeError, r"write xp\.sum\("),
    (lambda a: np.heaviside(a, 0.5), TypeError, r"numpy\.heaviside is not recorded"),
    (lambda a: np.linalg.norm(a), TypeError, r"numpy\.norm is not recorded"),
]


@pytest.mark.parametrize(("loss", "error", "said"), INSTEAD, ids=range(len(INSTEAD)))
def test_what_is_not_recorded_says_what_to_write(loss: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=rf"^value_and_grad: .*{said}.*xp = logits\.__array_namespace__\(\)"):
        al.value_and_grad(lambda a, t: loss(a))(np.ones((3, 4)), np.ones((3, 4)))


def test_methods_on_other_libraries() -> None:
    backend = BACKENDS["strict"]
    if (missing := backend.available()) is not None:
        pytest.skip(missing)
    with pytest.raises(AttributeError, match=r"write xp\.mean\("):
        al.value_and_grad(lambda a, t: a.mean())(backend.array(x), None)


@pytest.mark.backends("numpy", "torch", "jax")
def test_a_third_argument_of_value_and_grad(backend: Backend) -> None:
    a, t, w = backend.array(x), backend.array(y), backend.array(np.ones(y.shape))

    def own(logits: Any, target: Any, mask: Any) -> Any:
        return logits

    for loss, named in (
        (al.CrossEntropyLoss(), r"by keyword: pixel_weight=\.\.\.$"),
        (own, r"by keyword: mask=\.\.\.$"),
        (al.l1_loss, r"by keyword: reduction=\.\.\., ignore_index=\.\.\.$"),
        (al.L1Loss(), r"by keyword; options belong to the loss object$"),
    ):
        with pytest.raises(TypeError, match=rf"^value_and_grad: 3 arguments by position, expected 2.*{named}"):
            al.value_and_grad(loss)(a, t, w)  # type: ignore[call-arg]


# What the errors must not cost --------------------------------------------------------------------------------------


@every_loss
def test_signatures_are_those_of_the_functions(loss: type[al.Loss]) -> None:
    function = loss.function
    assert list(inspect.signature(function).parameters)[:2] == ["logits", "target"]
    assert list(inspect.signature(loss).parameters) == [f.name for f in dataclasses.fields(loss)]
    assert function.__module__ == loss.__module__
    assert function.__doc__
    assert inspect.getsource(function).startswith("@public")


# Losses of the user's own -------------------------------------------------------------------------------------------


def scaled_loss(logits: Any, target: Any, *, factor: float, name: str) -> Any:
    return al.mse_loss(logits, target, ignore_index=None) * factor


class ScaledLoss(al.Loss, function=scaled_loss):
    factor: float
    name: str = "scaled"


def test_a_loss_of_ones_own_may_have_options_of_its_own() -> None:
    loss = ScaledLoss(2.0)
    assert loss == ScaledLoss(factor=2.0, name="scaled")
    assert loss(np.asarray([3.0]), np.asarray([1.0])) == 8.0
    assert "is factor= meant?" in message(TypeError, lambda: ScaledLoss(2.0, factr=1.0))


def test_every_option_of_the_package_has_a_check() -> None:
    for loss in {type(case.loss) for case in CASES}:
        assert all(map(has_check, loss.__dataclass_fields__)), loss  # type: ignore[attr-defined]

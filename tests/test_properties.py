"""Every loss against its independent reference, on inputs that nobody would think of."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import CASES, Sample, reference_of
from hypothesis import HealthCheck, example, settings
from hypothesis import given as given_by
from hypothesis import strategies as st

import arrayloss as al

#: Labels of two classes may happen to be those of a mask.
pytestmark = pytest.mark.filterwarnings("ignore:.* holds 0 and 255 alone:UserWarning")

CLASSES = sorted({type(case.loss) for case in CASES}, key=lambda loss: loss.__name__)
every_loss = pytest.mark.parametrize("loss", CLASSES, ids=lambda loss: loss.__name__)

#: What each loss is tried on: see `samples`. A new loss needs a line here, and `OPTIONS` one for a new option.
KINDS: dict[str, list[str]] = {
    "BCEDiceLoss": ["labels", "one class", "multilabel"],
    "AsymmetricLoss": ["labels", "one class", "multilabel"],
    "BCELoss": ["labels", "one class", "multilabel", "edges"],
    "BootstrappedCrossEntropyLoss": ["labels"],
    "BoundaryLoss": ["distance"],
    "CharbonnierLoss": ["entries"],
    "CrossEntropyLoss": ["labels", "probabilities"],
    "DiceCELoss": ["labels", "probabilities"],
    "DetailAggregateLoss": ["edges"],
    "DiceLoss": ["labels", "probabilities"],
    "DistillCrossEntropyLoss": ["teacher", "teacher and labels"],
    "DistillationLoss": ["teacher and labels"],
    "DualTaskLoss": ["noisy"],
    "EdgeAttentionLoss": ["edged"],
    "GeneralizedDiceLoss": ["labels", "probabilities"],
    "JaccardLoss": ["labels", "probabilities"],
    "HausdorffDTLoss": ["distances"],
    "FocalLoss": ["labels", "probabilities"],
    "GeneralizedCrossEntropyLoss": ["labels", "probabilities"],
    "HingeLoss": ["labels", "one class", "multilabel"],
    "JSDivLoss": ["teacher", "teacher and labels"],
    "KLDivLoss": ["teacher", "teacher and labels"],
    "L1Loss": ["entries"],
    "LogCoshDiceLoss": ["labels", "probabilities"],
    "GaussianNLLLoss": ["measured"],
    "HuberLoss": ["entries"],
    "LogCoshLoss": ["entries"],
    "LovaszHingeLoss": ["one class", "two classes"],
    "LovaszSoftmaxLoss": ["labels"],
    "MSELoss": ["entries"],
    "MixedLoss": ["labels"],
    "MultiMarginLoss": ["labels"],
    "OhemCrossEntropyLoss": ["labels"],
    "OhemEdgeAttentionLoss": ["edged"],
    "PointCrossEntropyLoss": ["points"],
    "TverskyLoss": ["labels", "probabilities"],
    "SemanticConnectivityLoss": ["labels"],
    "SECrossEntropyLoss": ["scenes"],
    "PolyLoss": ["labels", "probabilities"],
    "PixelContrastLoss": ["embedded"],
    "RMILoss": ["images", "image probabilities"],
    "RelaxBoundaryLoss": ["images"],
    "SigmoidFocalLoss": ["labels", "one class", "multilabel"],
    "SymmetricCrossEntropyLoss": ["labels", "probabilities"],
    "SquaredHingeLoss": ["labels", "one class", "multilabel"],
    "PoissonNLLLoss": ["counts", "rates"],
    "QuantileLoss": ["entries"],
    "SmoothL1Loss": ["entries"],
}
#: Losses that select or sort: where two float32 numbers tie and the float64 ones do not, both results are right.
SELECTING = {name for name in KINDS if name.startswith(("Bootstrapped", "Ohem"))}
#: Losses of squares: the largest float16 score whose gradient, some times twice a difference, fits in float16.
LARGEST_HALF = {"MultiMarginLoss": 1e3, "SquaredHingeLoss": 3e4}
#: Losses whose float32 values are held to 1e-4 (see golden/README.md and cases.py).
WIDE = ("Lovasz", "DualTask", "MixedLoss", "RMI")

WEIGHTS = st.sampled_from([0.0, 1e-3, 0.5, 1.0, 3.0])
GAMMAS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0])


@dataclass(frozen=True)
class Shape:
    """Sizes of a call: images, classes and the space behind them."""

    images: int
    classes: int
    space: tuple[int, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        return (self.images, *self.space)

    @property
    def logits(self) -> tuple[int, ...]:
        return (self.images, self.classes, *self.space)


def per_class(shape: Shape) -> st.SearchStrategy[Any]:
    return st.lists(WEIGHTS, min_size=shape.classes, max_size=shape.classes)


def bce_weight(shape: Shape) -> st.SearchStrategy[Any]:
    each_image = st.lists(WEIGHTS, min_size=shape.images, max_size=shape.images)
    return st.one_of(st.none(), st.just("dynamic"), each_image)


#: A strategy for every option of every loss; a name with that of a class is for that class alone.
OPTIONS: dict[str, Any] = {
    "HausdorffDTLoss.alpha": lambda shape: st.sampled_from([0.5, 1.0, 2.0]),
    "FocalLoss.alpha": lambda shape: st.one_of(st.none(), WEIGHTS, per_class(shape)),
    "SigmoidFocalLoss.alpha": lambda shape: st.sampled_from([None, 0.0, 0.25, 1.0]),
    "SymmetricCrossEntropyLoss.alpha": lambda shape: st.sampled_from([0.0, 0.1, 6.0]),
    "CharbonnierLoss.epsilon": lambda shape: st.sampled_from([0.0, 1e-3, 1.0]),
    "SmoothL1Loss.beta": lambda shape: st.sampled_from([0.0, 1e-3, 1.0, 5.0]),
    "TverskyLoss.beta": lambda shape: st.sampled_from([0.1, 0.7, 1.0]),
    "DistillationLoss.alpha": lambda shape: st.sampled_from([0.0, 0.3, 1.0]),
    "TverskyLoss.alpha": lambda shape: st.sampled_from([0.0, 0.3, 1.0]),
    "TverskyLoss.gamma": lambda shape: st.sampled_from([0.75, 1.0, 2.0]),
    # What are probabilities already cannot be hostile.
    "activation": lambda shape: st.sampled_from(["softmax", "softmax", "sigmoid"]),
    "batch": lambda shape: st.booleans(),
    "beta": lambda shape: st.sampled_from([0.0, 0.1, 1.0]),
    "base_temperature": lambda shape: st.sampled_from([0.07, 1.0]),
    "bce_weight": lambda shape: st.sampled_from([0.0, 0.3, 1.0]),
    "border": lambda shape: st.integers(0, 3),
    "calculate_weights": lambda shape: st.booleans(),
    "classes": lambda shape: st.one_of(
        st.sampled_from(["present", "all"]),
        st.lists(st.integers(0, shape.classes - 1), min_size=1, unique=True),
    ),
    "clip": lambda shape: st.sampled_from([0.0, 1e-6, 0.05, 0.3, 1.0]),
    "coef": lambda shape: st.just([0.5, 2.0]),
    "delta": lambda shape: st.sampled_from([1e-3, 1.0, 5.0]),
    "edge_label": lambda shape: st.just(False),
    "edge_threshold": lambda shape: st.sampled_from([0.0, 0.4, 0.8, 1.0]),
    "include_background": lambda shape: st.just(True) if shape.classes == 1 else st.booleans(),
    "label_smoothing": lambda shape: st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    "lambda_bce": lambda shape: st.sampled_from([0.0, 1.0, 2.5]),
    "lambda_ce": lambda shape: st.sampled_from([0.0, 1.0, 2.5]),
    "lambda_dice": lambda shape: st.sampled_from([0.0, 0.5, 1.0]),
    "epsilon": lambda shape: st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
    "gamma": lambda shape: GAMMAS,
    "gamma_neg": lambda shape: GAMMAS,
    "gamma_pos": lambda shape: GAMMAS,
    "log_zero": lambda shape: st.sampled_from([-1e3, -4.0, -0.1, 0.0]),
    "eps": lambda shape: st.sampled_from([1e-2, 0.5]),
    "full": lambda shape: st.booleans(),
    "log_input": lambda shape: st.just(True),
    "loss_th": lambda shape: st.sampled_from([0.0, 0.31, 2.0, 1e3]),
    "losses": lambda shape: st.just([al.CrossEntropyLoss(), al.DiceLoss(smooth=1.0)]),
    "max_components": lambda shape: st.sampled_from([1, 2, 10]),
    "margin": lambda shape: st.sampled_from([0.5, 1.0, 2.0]),
    "max_samples": lambda shape: st.sampled_from([1, 5, 30]),
    "max_views": lambda shape: st.sampled_from([1, 2, 3, 7]),
    "min_K": lambda shape: st.sampled_from([1, 2, 5, 1000]),
    "min_kept": lambda shape: st.sampled_from([0, 1, 3, 1000]),
    "p": lambda shape: st.sampled_from([1, 2]),
    "per_image": lambda shape: st.booleans(),
    "pool": lambda shape: st.sampled_from(["avg", "max"]),
    "pos_weight": lambda shape: st.one_of(st.none(), st.just("dynamic"), WEIGHTS, per_class(shape)),
    "q": lambda shape: st.sampled_from([1e-6, 0.3, 0.7, 1.0]),
    "quantile": lambda shape: st.sampled_from([0.0, 1e-3, 0.5, 0.9, 1.0]),
    "smooth": lambda shape: st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    "squared": lambda shape: st.booleans(),
    "tau": lambda shape: st.sampled_from([0.3, 0.5, 2.0]),
    "temperature": lambda shape: st.sampled_from([0.5, 1.0, 3.0]),
    "radius": lambda shape: st.integers(1, 2),
    "stride": lambda shape: st.integers(1, min(shape.space) // 2),
    "thresh": lambda shape: st.sampled_from([0.0, 0.31, 0.7, 1.0]),
    "threshold": lambda shape: st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.35, 0.6, 0.9, 1.0]),
    "top_k_percent_pixels": lambda shape: st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.0]),
    "upper_bound": lambda shape: st.sampled_from([0.5, 1.0, 3.0]),
    "weight": lambda shape: st.one_of(st.none(), per_class(shape)),
    "weight_type": lambda shape: st.sampled_from(["square", "simple", "uniform"]),
}
#: Options that belong to the inputs.
OF_INPUTS = {"axis", "ignore_index", "reduction"}

#: Scores that break careless formulas, by dtype.
HOSTILE = {
    "float64": [0.0, -0.0, 5e-324, -1e-300, 1e-16, 709.0, 745.2, -745.2, 1e4, -1e4, 1e8, -1e8, 1e100, -1e100],
    "float32": [0.0, -0.0, 1e-45, -1e-38, 1e-8, 88.0, 103.9, -103.9, 1e4, -1e4, 1e6, -1e6],
    "float16": [0.0, -0.0, 6e-8, 11.0, -17.0, 1e4, -1e4, 6.5e4, -6.5e4],
    "bfloat16": [0.0, -0.0, 1e-40, 88.0, -88.0, 1e4, -1e4],
}


#: Kinds of inputs that are compared entry by entry, without classes.
ENTRYWISE = ("entries", "counts", "rates", "measured")
#: What the exponential of stays well within the dtype: of the gradient, which is as large, and of sums.
EXPONENT = {"float64": 700.0, "float32": 80.0, "float16": 10.0, "bfloat16": 80.0}


@dataclass(frozen=True)
class Call:
    """A loss object, the inputs of one call in float64, and the dtypes they are to have."""

    loss: al.Loss
    sample: Sample
    dtype: str
    labels: str


def strategy(loss: type[al.Loss], option: str) -> Any:
    """Return what draws an option of a loss."""
    return OPTIONS.get(f"{loss.__name__}.{option}") or OPTIONS[option]


@st.composite
def calls(draw: Any, loss: type[al.Loss], backend: Backend) -> Call:
    """Draw a loss of a class and inputs for it."""
    kind = draw(st.sampled_from(KINDS[loss.__name__]))
    # JAX compiles every operation for every new shape and dtype, so there they are always the same.
    one_shape = backend.needs == "jax"
    shape = Shape(2, CLASSES_OF.get(kind, 3), SPACE_OF.get(kind, (3, 4))) if one_shape else draw(shapes(kind))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields = set(loss.__dataclass_fields__)  # type: ignore[attr-defined]
    options = {name: draw(strategy(loss, name)(shape)) for name in sorted(fields - OF_INPUTS)}
    if loss is al.BCELoss:
        options["weight"] = draw(bce_weight(shape))
        options["edge_label"] = kind == "edges"
    if "log_input" in fields:
        options["log_input"] = kind == "counts"
    if kind in ENTRYWISE:
        options["reduction"] = draw(st.sampled_from(["mean", "sum", "none", "parts"]))
    selecting = loss.__name__ in SELECTING or options.get("top_k_percent_pixels", 1.0) < 1.0
    dtype = "float64" if selecting or one_shape else draw(st.sampled_from(["float64", *backend.dtypes()]))
    ignore = draw(st.sampled_from([255, 255, None, -1, 0]))
    if kind in ("image probabilities", "probabilities") or "ignore_index" not in fields:
        ignore = 255
    limit = LARGEST_HALF.get(loss.__name__, 6e4 if kind in ENTRYWISE else math.inf) if dtype == "float16" else math.inf
    hostile = [x for x in HOSTILE[dtype] if abs(x) < limit]
    sample = inputs(draw, rng, kind, shape, ignore, dtype, hostile, clean=options.get("label_smoothing", 0.0) > 0)
    if "ignore_index" in fields:
        options["ignore_index"] = ignore
    if "axis" in fields and kind not in ("edges", "points") and not one_shape:
        options["axis"] = axis = draw(st.integers(-len(shape.logits), len(shape.logits) - 1))
        sample = moved(sample, axis, shape)
    return Call(reduced(draw, loss, options), sample, dtype, draw(st.sampled_from(label_dtypes(sample, backend))))


#: What a call takes beside the labels.
DISTANCES = {"distance": ("distance",), "distances": ("target_distance", "prediction_distance")}
#: The number of classes, where it is not free.
CLASSES_OF = {"one class": 1, "two classes": 2, "edges": 1}
#: The space of the logits, where it is not that of the target.
SPACE_OF: dict[str, tuple[int, ...]] = {"points": (5,), "scenes": ()}


@st.composite
def shapes(draw: Any, kind: str) -> Shape:
    """Draw sizes, with images where the kind needs them and else of any number of dimensions, empty ones included."""
    if kind in ("edges", "image probabilities", "images", "noisy"):
        space = (draw(st.integers(3, 5)), draw(st.integers(3, 6)))
    elif kind in SPACE_OF:
        space = SPACE_OF[kind] and (draw(st.integers(1, 6)),)
    else:
        space = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    classes = CLASSES_OF.get(kind) or draw(st.integers(2, 5))
    return Shape(draw(st.integers(1, 3)), classes, space)


def inputs(
    draw: Any,
    rng: np.random.Generator,
    kind: str,
    shape: Shape,
    ignore: int | None,
    dtype: str,
    hostile: list[float],
    *,
    clean: bool,
) -> Sample:
    """Draw scores, with hostile ones among them, and a target of a kind."""
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1.0, 20.0]))
    logits = rng.normal(size=shape.logits) * scale
    places = st.integers(0, max(logits.size - 1, 0))
    for place in draw(st.lists(places, max_size=4)):
        logits.reshape(-1)[place] = draw(st.sampled_from(hostile))
    if draw(st.booleans()) and shape.space:
        logits[..., -1] = logits[..., 0]  # pixels that tie
    if kind in ("counts", "rates"):
        logits = np.minimum(logits, EXPONENT[dtype]) if kind == "counts" else np.abs(logits)
    if kind in (*ENTRYWISE, "multilabel"):
        target = target_of(rng, kind, shape.logits)
        ignored = rng.random(shape.logits) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        if ignore is not None:
            target[ignored] = ignore
            spoil(draw, logits, target == ignore)
        ignored = None if ignore is None else target == ignore
        if kind != "measured":
            return Sample(logits, target, ignored=ignored)
        # The gradient is as the square of the mean: a tenth of the largest number fits where that is small.
        mean = np.clip(logits, -100.0, 100.0) if dtype == "float16" else logits
        return Sample((mean, rng.random(shape.logits) + 0.5 * (dtype == "float16")), target, ignored=ignored)
    if kind in ("image probabilities", "probabilities"):
        target = probabilities(rng, shape.logits)
        return Sample(logits, target, {})
    if kind in SPACE_OF:
        return before_maps(draw, rng, kind, shape, logits, ignore)
    if kind == "teacher":
        return Sample(logits, teacher_of(draw, rng, shape))
    labels = rng.integers(0, max(shape.classes, 3 if kind == "edges" else 2), size=shape.positions)
    if draw(st.booleans()) and shape.space:
        labels[..., -1] = labels[..., 0]
    if ignore is not None:
        labels[rng.random(labels.shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = ignore
    valid = labels != (math.nan if ignore is None else ignore)
    if kind not in ("edges", "one class", "two classes", "teacher and labels") and not clean:
        holes(draw, logits, labels, valid)
    everywhere = np.broadcast_to(~valid[:, None], logits.shape)
    spoil(draw, logits, everywhere)
    arrays = {"noise": rng.gumbel(size=shape.logits)} if kind == "noisy" else {}
    for name in DISTANCES.get(kind, ()):
        arrays[name] = rng.uniform(0.0 if kind == "distances" else -3.0, 3.0, size=shape.logits)
        spoil(draw, arrays[name], everywhere)
    if kind == "teacher and labels":
        teacher = teacher_of(draw, rng, shape)
        spoil(draw, teacher, everywhere)
        return Sample(logits, teacher, {"labels": labels}, everywhere)
    if kind == "embedded":
        embedding = rng.normal(size=(shape.images, 4, *shape.space)) * scale
        np.copyto(embedding, np.nan, where=~valid[:, None])
        arrays = {"noise": rng.random(shape.positions)}
        return Sample((embedding, logits), labels, arrays, np.broadcast_to(~valid[:, None], embedding.shape))
    if kind == "edged":
        return Sample((logits, rng.random((shape.images, 1, *shape.space))), labels, arrays, everywhere)
    return Sample(logits, labels, arrays, everywhere)


def before_maps(
    draw: Any, rng: np.random.Generator, kind: str, shape: Shape, logits: np.ndarray, ignore: int | None
) -> Sample:
    """Draw label maps of a size of their own for scores of whole images, or at points, corners among them."""
    space = draw(st.sampled_from([(4, 3), (1, 5), (6,), (2, 3, 2)]))
    labels = rng.integers(0, shape.classes, size=(shape.images, *space))
    if ignore is not None:
        labels[rng.random(labels.shape) < draw(st.sampled_from([0.0, 0.3]))] = ignore
        labels[rng.random(shape.images) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = ignore
    out = labels == (math.nan if ignore is None else ignore)
    if kind == "scenes":
        ignored = np.broadcast_to(out.reshape((shape.images, -1)).all(axis=1)[:, None], shape.logits)
        spoil(draw, logits, ignored)
        return Sample(logits, labels, {}, ignored)
    points = rng.random((shape.images, *shape.space, len(space)))
    points[rng.random(points.shape) < 0.2] = draw(st.sampled_from([0.0, 1.0]))
    size = np.asarray(space)
    pixels = np.minimum((points[..., ::-1] * size).astype(int), size - 1)
    at_points = [out[(n, *pixel)] for n in range(shape.images) for pixel in pixels[n]]
    ignored = np.broadcast_to(np.reshape(at_points, (shape.images, 1, -1)).astype(bool), shape.logits)
    spoil(draw, logits, ignored)
    return Sample((logits, points), labels, {}, ignored)


def target_of(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a target for each entry."""
    if kind == "multilabel":
        return probabilities(rng, shape)
    return rng.poisson(1.5, size=shape).astype(np.float64) if kind in ("counts", "rates") else rng.normal(size=shape)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers in [0, 1], a third of them 0 and a third 1."""
    return np.clip(rng.uniform(-1.0, 2.0, size=shape), 0.0, 1.0)


def teacher_of(draw: Any, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw scores of a teacher, of which some rule a class out."""
    teacher = rng.normal(size=shape.logits) * draw(st.sampled_from([0.0, 1.0, 20.0]))
    teacher[:, 1:][rng.random(teacher[:, 1:].shape) < draw(st.sampled_from([0.0, 0.3]))] = -math.inf
    return teacher


def spoil(draw: Any, logits: np.ndarray, ignored: np.ndarray) -> None:
    """Put what is no number where it must not matter."""
    logits[ignored] = draw(st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e30]))


def holes(draw: Any, logits: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> None:
    """Put -inf at a class that is not the target, which a loss of labels takes."""
    if not draw(st.booleans()):
        return
    for n, *place in itertools.islice(zip(*np.nonzero(valid), strict=True), 3):
        other = (int(labels[(n, *place)]) + 1) % logits.shape[1]
        logits[(n, other, *place)] = -math.inf


def moved(sample: Sample, axis: int, shape: Shape) -> Sample:
    """Return the sample with the class axis elsewhere."""
    logits = tuple(np.moveaxis(x, 1, axis) for x in sample.parts)
    like_logits = sample.target.shape == shape.logits
    return Sample(
        logits if isinstance(sample.logits, tuple) else logits[0],
        np.moveaxis(sample.target, 1, axis) if like_logits and sample.target.dtype.kind == "f" else sample.target,
        # What has a number per position has no class axis to move.
        {name: np.moveaxis(x, 1, axis) if x.shape == shape.logits else x for name, x in sample.arrays.items()},
        None if sample.ignored is None else np.moveaxis(sample.ignored, 1, axis),
    )


def label_dtypes(sample: Sample, backend: Backend) -> list[str]:
    """Return the dtypes that hold the labels."""
    labels = sample.labels
    if labels.dtype.kind == "f" or labels.size == 0:
        return ["int64"]
    low, high = int(labels.min()), int(labels.max())
    names = ["int64", "int32", "int16", "uint64", "uint8", "int8"]
    return [n for n in names if np.iinfo(n).min <= low and high <= np.iinfo(n).max]


def reduced(draw: Any, loss: type[al.Loss], options: dict[str, Any]) -> al.Loss:
    """Return the loss object with a reduction that it takes."""
    if loss is al.MixedLoss or "reduction" in options:
        return loss(**options)
    reduction = draw(st.sampled_from(["mean", "mean", "sum", "none", "parts"]))
    if loss in (al.BCEDiceLoss, al.DiceCELoss) and reduction == "none":
        options["batch"] = False  # or the images have no shares
    try:
        return loss(reduction=reduction, **options)
    except ValueError:
        assert reduction == "parts"
        return loss(**options)


def test_every_loss_and_option_is_drawn() -> None:
    assert {loss.__name__ for loss in CLASSES} <= set(KINDS)
    for loss in CLASSES:
        for option in set(loss.__dataclass_fields__) - OF_INPUTS:  # type: ignore[attr-defined]
            assert strategy(loss, option), option


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return x.astype(dtype) if x.dtype.kind == "f" else x


def check(call: Call, backend: Backend) -> None:
    """Compare a call with the reference, on the numbers that the dtype holds."""
    sample, narrow = call.sample, [rounded(x, call.dtype) for x in call.sample.parts]

    def narrowed(x: np.ndarray) -> np.ndarray:
        return x.astype(call.labels) if x.dtype.kind in "iu" else rounded(x, call.dtype)

    def widened(x: np.ndarray) -> np.ndarray:
        return x if x.dtype.kind in "iu" else x.astype(np.float64)

    target, arrays = narrowed(sample.target), {name: narrowed(x) for name, x in sample.arrays.items()}
    several = isinstance(sample.logits, tuple)

    given = tuple(map(backend.array, narrow))
    value, gradients = backend.value_and_grad(
        call.loss,
        given if several else given[0],
        backend.array(target),
        **{name: backend.array(x) for name, x in arrays.items()},
    )

    wide = list(map(widened, narrow))
    expected = reference_of(call.loss)(
        tuple(wide) if several else wide[0], widened(target), **{name: widened(x) for name, x in arrays.items()}
    )
    results = value if isinstance(value, tuple) else (value,)
    for found, e in zip(results, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert backend.is_array(found)
        found = backend.numpy(found)
        assert found.shape == np.shape(e)
        assert str(found.dtype) == ("float64" if call.dtype == "float64" else "float32")
        relative, absolute = 1e-9, 1e-12
        if call.dtype != "float64":
            # What is a difference of numbers around 1, such as a Dice loss, has an absolute error of float32.
            relative, absolute = (1e-4 if type(call.loss).__name__.startswith(WIDE) else 1e-5), 2e-6
        largest = np.abs(e).max(initial=0.0) if np.shape(e) else abs(e)
        np.testing.assert_allclose(found, e, rtol=0, atol=relative * largest + absolute)
    for g, x in zip(gradients if several else (gradients,), narrow, strict=True):
        g = backend.numpy(g)
        assert (g.shape, str(g.dtype)) == (x.shape, call.dtype)
        assert np.isfinite(g.astype(np.float64)).all()
    if sample.ignored is not None and sample.ignored.any():
        first = backend.numpy(gradients[0] if several else gradients)
        neighbours = type(call.loss).__name__ == "DualTaskLoss"  # where an ignored pixel counts as a fixed one
        assert (first[sample.ignored] == 0).all() or neighbours


def properties(count: int) -> Any:
    """Return the settings of a test: always the same examples, no limit on the time of one."""
    return settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=count,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@every_loss
@pytest.mark.backends("numpy")
@properties(50)
@given_by(data=st.data())
def test_on_numpy(loss: type[al.Loss], backend: Backend, data: Any) -> None:
    check(data.draw(calls(loss, backend)), backend)


@every_loss
@pytest.mark.backends("strict", "torch")
@properties(20)
@given_by(data=st.data())
def test_on_strict_and_torch(loss: type[al.Loss], backend: Backend, data: Any) -> None:
    check(data.draw(calls(loss, backend)), backend)


@every_loss
@pytest.mark.backends("cupy", "torch-cuda")
@properties(20)
@given_by(data=st.data())
def test_on_a_gpu(loss: type[al.Loss], backend: Backend, data: Any) -> None:
    check(data.draw(calls(loss, backend)), backend)


@every_loss
@pytest.mark.backends("jax-jitted")
@properties(2)
@given_by(data=st.data())
def test_on_jax(loss: type[al.Loss], backend: Backend, data: Any) -> None:
    check(data.draw(calls(loss, backend)), backend)


# Label maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy", "strict", "torch")
@properties(30)
@given_by(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 7)),
    radius=st.integers(0, 4),
    ignore=st.sampled_from([255, 0, None]),
)
@example(seed=0, size=(1, 1, 1), radius=9, ignore=None)
def test_label_edges(seed: int, size: tuple[int, int, int], radius: int, ignore: int | None, backend: Backend) -> None:
    from reference import binary

    target = np.random.default_rng(seed).choice(np.asarray([0, 1, 255], dtype=np.uint8), size=size)
    found = al.label_edges(backend.array(target), radius=radius, ignore_index=ignore)
    expected = binary.label_edges(target, radius=radius, ignore_index=ignore)
    np.testing.assert_array_equal(backend.numpy(found), expected)


# Invariants that hold without a reference ---------------------------------------------------------------------------


@pytest.mark.backends("numpy", "strict", "torch")
@properties(40)
@given_by(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 70),
    copies=st.integers(2, 9),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_tied_pixels_are_selected_together(
    seed: int, count: int, copies: int, share: float, dtype: str, backend: Backend
) -> None:
    """Copies of a pixel all count or none does, wherever they stand, however a library splits its loops."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(1, 3, count)).astype(dtype), rng.integers(0, 3, size=(1, count))
    order = rng.permutation(count * copies)
    many, many_labels = np.tile(logits, copies)[..., order], np.tile(labels, copies)[..., order]
    pixel = np.tile(np.arange(count), copies)[order]
    losses = [al.CrossEntropyLoss(top_k_percent_pixels=share, reduction="none")]
    losses += [
        make(reduction="none")
        for name, make in {
            "OhemCrossEntropyLoss": lambda **o: al.OhemCrossEntropyLoss(0.1, max(1, count // 2), **o),
            "BootstrappedCrossEntropyLoss": lambda **o: al.BootstrappedCrossEntropyLoss(max(1, count // 2), 9.0, **o),
        }.items()
        if name in al.__all__
    ]
    for loss in losses:
        kept = backend.numpy(loss(backend.array(many), backend.array(many_labels)))[0] > 0
        for i in range(count):
            assert len(set(kept[pixel == i])) == 1, (loss, i)


@pytest.mark.backends("numpy", "torch")
@properties(10)
@given_by(seed=st.integers(0, 2**32 - 1), split=st.integers(1, 3))
def test_parts_of_batches_add_up(seed: int, split: int, backend: Backend) -> None:
    """Totals and weights of two halves give the mean of the whole batch."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(4, 3, 5)), rng.integers(0, 3, size=(4, 5))
    labels[rng.random(labels.shape) < 0.3] = 255
    for loss in (al.CrossEntropyLoss, al.BCELoss):
        whole = loss()(backend.array(logits), backend.array(labels))
        halves = [
            loss(reduction="parts")(backend.array(logits[part]), backend.array(labels[part]))
            for part in (slice(0, split), slice(split, None))
        ]
        total, weight = (sum(float(backend.numpy(h[i])) for h in halves) for i in (0, 1))
        np.testing.assert_allclose(backend.numpy(whole), total / weight, rtol=1e-12)


# Options as arrays --------------------------------------------------------------------------------------------------

ARRAY_OPTIONS = [
    ("cross_entropy_loss", "weight", [0.5, 1.0, 2.0]),
    ("bce_loss", "weight", [0.5, 2.0]),
    ("bce_loss", "weight", [[[0.5], [1.0], [2.0]]]),
    ("bce_loss", "pos_weight", [0.5, 1.0, 2.0]),
    ("bce_loss", "pos_weight", 2.0),
    ("dice_loss", "weight", [0.5, 1.0, 2.0]),
    ("ohem_cross_entropy_loss", "weight", [0.5, 1.0, 2.0]),
    ("bootstrapped_cross_entropy_loss", "weight", [0.5, 1.0, 2.0]),
]


@pytest.mark.parametrize(
    ("name", "option", "value"), [o for o in ARRAY_OPTIONS if o[0] in al.__all__], ids=lambda x: str(x).replace(" ", "")
)
def test_options_may_be_arrays(name: str, option: str, value: Any, backend: Backend, rng: np.random.Generator) -> None:
    """An option handed to a function as an array of the library does what the same numbers do."""
    logits, target = rng.normal(size=(2, 3, 5)), rng.integers(0, 3, size=(2, 5))
    needed = {"min_K": 2, "loss_th": 0.5} if name.startswith("bootstrapped") else {}
    function = getattr(al, name)
    given = backend.array(logits), backend.array(target)
    array = backend.array(np.asarray(value))
    found = function(*given, **needed, **{option: array})
    expected = function(logits, target, **needed, **{option: value})
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)
    bound = getattr(al, next(c.__name__ for c in CLASSES if c.function is function))
    np.testing.assert_allclose(bound(**needed, **{option: np.asarray(value)})(logits, target), expected, rtol=1e-14)

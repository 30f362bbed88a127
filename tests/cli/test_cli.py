"""The command line, as a user runs it: in processes of its own, and within this one where that shows the same."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import environment, python

import arrayloss as al
from arrayloss.__main__ import main
from arrayloss._cli import catalog, demo, model, progress, scenes, training, trials
from arrayloss._cli.libraries import NAMES, open_backend
from arrayloss._core import capabilities
from arrayloss._core.loss import Loss

LOSSES = {name: x for name in al.__all__ if isinstance(x := getattr(al, name), type) and issubclass(x, Loss)}
del LOSSES["Loss"]
#: The libraries that compute here beside NumPy; CuPy needs a GPU, which the demo finds or not.
INSTALLED = ["numpy", *(name for name in ("torch", "jax") if importlib.util.find_spec(name))]

#: Pixels along a side of the smallest image that every loss takes.
SIDE = 12


def stub(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)


@pytest.fixture
def hidden(tmp_path):
    """Return a function that makes a folder which, first on the path, hides libraries."""

    def hide(*names: str) -> Path:
        folder = tmp_path / "hidden"
        folder.mkdir(exist_ok=True)
        for name in names:
            stub(folder, name, f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n")
        return folder

    return hide


def cli(*arguments: str, cwd: Path, first: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return python("-m", "arrayloss", *arguments, cwd=cwd, env=environment(*first))


def assert_one_line(stderr: str, *words: str) -> None:
    assert stderr.startswith("arrayloss: error: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    for word in words:
        assert word in stderr


# The main job.


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run a short demo on every library; its report, its picture and what it wrote to stderr."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("demo")
    done = cli("--steps", "100", "--json", "--plot", "demo.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder / "demo.png", done.stderr


def test_demo_trains_on_every_library(ran):
    report, _, stderr = ran
    names = [run["name"] for run in report["libraries"]]
    assert [name for name in names if name != "cupy"] == INSTALLED
    assert sorted([*names, *report["not_run"]]) == sorted(NAMES)
    for run in [report["reference"], *report["libraries"]]:
        assert len(run["loss_curve"]) == report["steps"] == 100
        assert run["loss_last"] < 0.5 * run["loss_first"]
        assert run["pixel_accuracy"] > report["background_share"] + 0.01 > 0.8
        assert run["mean_iou"] > 3 * report["untrained"]["mean_iou"]
        assert run["seconds"] > 0
        assert run["device"]
    assert report["reference"]["dtype"] == "float64"
    assert stderr == ""  # progress is for terminals


def test_demo_libraries_agree(ran):
    report, _, _ = ran
    for run in report["libraries"]:
        assert run["dtype"] == "float32"
        # Rounding of float32 (6e-8), times the depth of the sums behind a gradient.
        assert 0 <= run["value_difference"] < 2e-6
        assert 0 < run["gradient_difference"] < 5e-5
        np.testing.assert_allclose(run["loss_curve"][:10], report["reference"]["loss_curve"][:10], rtol=1e-3)


def test_demo_compares_every_loss(ran):
    report, _, _ = ran
    assert [row["name"] for row in report["losses"]] == sorted(LOSSES)
    names = {run["name"] for run in report["libraries"]}
    for row in report["losses"]:
        assert row["loss"].startswith(row["name"] + "(")
        assert np.isfinite(row["value"])
        assert row["value"] != 0
        assert set(row["libraries"]) == names
        for apart in row["libraries"].values():
            assert 0 <= apart["value_difference"] < 1e-5
            # Where a loss sorts, two errors that differ by a rounding may change places.
            assert 0 <= apart["gradient_difference"] < 1e-3


def test_demo_draws(ran):
    import matplotlib.image

    _, picture, _ = ran
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 1000
    red, green, blue = np.moveaxis((pixels[..., :3] * 255).astype(int), -1, 0)
    assert len(np.unique(red << 16 | green << 8 | blue)) > 100


@pytest.mark.once
def test_demo_on_numpy_and_scikit_learn_alone(hidden, tmp_path):
    pytest.importorskip("sklearn")
    done = cli("demo", "--steps", "3", cwd=tmp_path, first=(hidden("torch", "jax", "cupy", "matplotlib"),))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"numpy {np.__version__}" in done.stdout
    for name in LOSSES:
        assert f"\n{name} " in done.stdout
    for name in ("torch", "jax", "cupy"):
        assert f'Not run: {name}: not installed: pip install "arrayloss[{name}]"' in done.stdout


def test_demo_without_scikit_learn(hidden, tmp_path):
    done = cli(cwd=tmp_path, first=(hidden("sklearn"),))
    assert done.returncode == 2
    assert done.stdout == ""
    assert_one_line(done.stderr, "scikit-learn", 'pip install "arrayloss[demo]"')


def test_plot_without_matplotlib(hidden, tmp_path):
    done = cli("--plot", "demo.png", cwd=tmp_path, first=(hidden("matplotlib"),))
    assert done.returncode == 2
    assert done.stdout == ""  # said before the training
    assert_one_line(done.stderr, "Matplotlib", 'pip install "arrayloss[demo]"')


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        step = demo._progress("numpy", 2)
        step(1, 3.0)
        assert (f"numpy [{'#' * 12}{' ' * 12}] 1/2 loss 3.000" in stream.getvalue()) is shown
        progress.clear()
        assert stream.getvalue().rpartition("\r")[2] == ""  # the line is wiped


def test_progress_is_one_line_however_narrow_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    progress.show("comparing", 3, 14, "BootstrappedCrossEntropyLoss, numpy")
    progress.show("drawing")
    first, second = stream.getvalue().split("\r")[1:]
    assert first.startswith("comparing [#####")
    assert second.strip() == "drawing"
    assert len(first) == len(second) == 29


@pytest.mark.once
def test_scenes_are_labelled_digits():
    pytest.importorskip("sklearn")
    trained, held_out = scenes.digit_scenes()
    for some in (trained, held_out):
        assert some.pictures.shape == some.labels.shape
        assert some.pictures.min() == 0
        assert some.pictures.max() == 1
        assert set(np.unique(some.labels)) == {*range(11), 255}
        assert np.all(some.labels[some.pictures == 0] == 0)
        assert np.all(some.labels[some.pictures > 0] > 0)
    again = scenes.digit_scenes()[1]
    np.testing.assert_array_equal(again.pictures, held_out.pictures)


def test_held_out_digits_are_not_trained_on(monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    # Every digit becomes a square whose brightness is its number among all.
    digits.images = np.broadcast_to(5 + 11 * np.arange(1797)[:, None, None] / 1797, (1797, 8, 8))
    monkeypatch.setattr(datasets, "load_digits", lambda: digits)
    trained, held_out = (set(np.unique(some.pictures)) - {0.0} for some in scenes.digit_scenes())
    assert len(trained) > 1000
    assert len(held_out) > 400
    assert not trained & held_out


def test_scores_by_hand():
    labels = np.array([[0, 0, 1], [1, 2, 255]])
    predicted = np.array([[0, 1, 1], [1, 0, 3]])
    assert scenes.pixel_accuracy(predicted, labels) == 3 / 5
    assert scenes.mean_iou(predicted, labels) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def small_problem():
    random = np.random.default_rng(5)
    weights = tuple(w.astype("float64") + 0.1 for w in model.initial_weights(5, 4))
    return weights, random.random((2, 6, 7)), random.integers(0, 4, (2, 6, 7))


def test_model_gradient_is_that_of_finite_differences():
    weights, pictures, labels = small_problem()
    _, _, gradients = training.loss_and_gradients(weights, pictures, labels)
    for i, gradient in enumerate(gradients):
        for at in ((0, 0), (-1, -1)):
            shift = np.zeros_like(weights[i])
            shift[at] = 1e-6
            moved = [[*weights[:i], weights[i] + sign * shift, *weights[i + 1 :]] for sign in (1, -1)]
            up, down = (training.loss_and_gradients(tuple(w), pictures, labels)[0] for w in moved)
            assert gradient[at] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-9)


def test_model_needs_only_the_array_api():
    strict = pytest.importorskip("array_api_strict")
    weights, pictures, labels = small_problem()
    value, slope, gradients = training.loss_and_gradients(weights, pictures, labels)
    found = training.loss_and_gradients(
        tuple(map(strict.asarray, weights)), strict.asarray(pictures), strict.asarray(labels)
    )
    np.testing.assert_allclose(float(found[0]), value, rtol=1e-12)
    for a, b in zip((found[1], *found[2]), (slope, *gradients), strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-9, atol=1e-12)
    moved, _ = model.adam(strict.asarray(weights[0]), found[2][0], (strict.asarray(0 * weights[0]),) * 2, 1, 0.1)
    assert np.all(np.abs(np.asarray(moved) - weights[0]) <= 0.1 + 1e-9)


# evaluate


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write logits and targets to the current folder and return them."""
    random = np.random.default_rng(3)
    arrays = {
        "logits": random.normal(size=(2, 3, 4, 5)),
        "logits32": random.normal(size=(2, 3, 4, 5)).astype("float32"),
        "labels": np.where(random.random((2, 4, 5)) < 0.2, 255, random.integers(0, 3, (2, 4, 5))).astype("uint8"),
        "weight": random.random((2, 4, 5)),
        "edge": random.random((2, 1, 4, 5)),
        "bad_labels": np.full((2, 4, 5), 7),
        "wrong_shape": np.zeros((2, 4, 6), dtype="int64"),
        "float_labels": np.zeros((2, 4, 5)),
        "complex": np.ones((2, 3, 4, 5), dtype="complex64"),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "junk.npy").write_bytes(b"no array\n")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "logits.npy").read_bytes()[:300])
    np.save(tmp_path / "pickled.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "several.npz", logits=arrays["logits"])
    monkeypatch.chdir(tmp_path)
    return arrays


def evaluate(
    capsys, *arguments: str, loss: str = "dice", logits: str = "logits.npy", target: str = "labels.npy"
) -> str:
    status = main(["evaluate", "--loss", loss, "--logits", logits, "--target", target, *arguments])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    return printed.out.strip()


@pytest.mark.parametrize("name", ["DiceLoss", "dice_loss", "dice", "DICE", "diceloss", "Dice-Loss"])
def test_evaluate_knows_a_loss_by_its_names(capsys, files, name):
    assert float(evaluate(capsys, loss=name)) == al.dice_loss(files["logits"], files["labels"])


def test_evaluate_in_a_process_of_its_own(files, tmp_path):
    done = cli(
        "evaluate",
        *("--loss", "cross_entropy", "--logits", "logits32.npy", "--target", "labels.npy"),
        *("--option", "weight=[1, 2, 0.5]", "--option", "label_smoothing=0.1", "--grad", "out.npy"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    loss = al.CrossEntropyLoss(weight=[1, 2, 0.5], label_smoothing=0.1)
    value, gradient = al.value_and_grad(loss)(files["logits32"], files["labels"])
    assert np.float32(done.stdout) == value
    written = np.load("out.npy")
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, gradient)


def test_evaluate_options(capsys, files):
    x, y = files["logits"], files["labels"]
    assert float(evaluate(capsys, "--option", "smooth=2")) == al.dice_loss(x, y, smooth=2.0)
    one_class = evaluate(capsys, "--option", "pos_weight=dynamic", "--option", "ignore_index=255", loss="bce")
    assert float(one_class) == al.bce_loss(x, y, pos_weight="dynamic")
    weighted = evaluate(capsys, "--array", "pixel_weight=weight.npy", loss="cross_entropy")
    assert float(weighted) == al.cross_entropy_loss(x, y, pixel_weight=files["weight"])
    mixed = evaluate(capsys, "--option", "losses=cross_entropy,Dice", "--option", "coef=1,0.5", loss="mixed")
    assert float(mixed) == al.cross_entropy_loss(x, y) + 0.5 * al.dice_loss(x, y)


@pytest.mark.parametrize(
    "text",
    [
        "CrossEntropyLoss(weight=[1, 2, 0.5]), DiceLoss(smooth=1.0)",
        "[cross_entropy(weight=(1, 2, 0.5)), dice(smooth=1)]",
        str((al.CrossEntropyLoss(weight=[1, 2, 0.5]), al.DiceLoss(smooth=1.0))),
    ],
)
def test_evaluate_a_mixture_of_losses_with_options(capsys, files, text):
    mixed = evaluate(capsys, "--option", f"losses={text}", "--option", "coef=1,0.5", loss="mixed")
    terms = al.CrossEntropyLoss(weight=[1, 2, 0.5]), al.DiceLoss(smooth=1.0)
    assert float(mixed) == al.MixedLoss(terms, (1.0, 0.5))(files["logits"], files["labels"])


def test_evaluate_a_mixture_of_names_and_code(capsys, files):
    by_names, by_both = (
        evaluate(capsys, "--option", f"losses={text}", "--option", "coef=1,0.5", loss="mixed")
        for text in ("cross_entropy,dice", "cross_entropy, DiceLoss()")
    )
    assert by_names == by_both


def test_evaluate_reductions(capsys, files):
    x, y = files["logits"], files["labels"]
    total, weight = evaluate(capsys, "--option", "reduction=parts", loss="cross_entropy").split()
    assert (float(total), float(weight)) == al.cross_entropy_loss(x, y, reduction="parts")
    report = json.loads(evaluate(capsys, "--option", "reduction=parts", "--json", loss="cross_entropy"))
    assert report["value"] == {"total": float(total), "weight": float(weight)}
    assert evaluate(capsys, "--option", "reduction=none").startswith("[[")
    report = json.loads(evaluate(capsys, "--option", "reduction=none", "--json", "--grad", "out.npy"))
    np.testing.assert_array_equal(report["value"], al.dice_loss(x, y, reduction="none"))
    assert report["shape"] == [2, 3]
    gradient = al.value_and_grad(al.DiceLoss(reduction="none"))(x, y)[1]
    np.testing.assert_array_equal(np.load("out.npy"), gradient)


def test_evaluate_json(capsys, files):
    report = json.loads(evaluate(capsys, "--option", "smooth=1", "--json", logits="logits32.npy"))
    value = report.pop("value")
    assert value == al.dice_loss(files["logits32"], files["labels"], smooth=1.0)
    assert report == {
        "loss": "DiceLoss",
        "options": vars(al.DiceLoss(smooth=1.0)),
        "backend": "numpy",
        "shape": [],
        "dtype": "float32",
        "gradient": [],
    }


def test_evaluate_json_is_json_whatever_the_value(capsys, files):
    np.save("infinite.npy", np.full((1, 2), -np.inf))
    np.save("label.npy", np.array([1]))
    printed = evaluate(capsys, "--json", loss="cross_entropy", logits="infinite.npy", target="label.npy")
    report = json.loads(printed, parse_constant=pytest.fail)
    assert report["value"] in ("nan", "inf")


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("logits", ["logits", "logits32"])
def test_evaluate_backends_agree(capsys, files, name, logits):
    pytest.importorskip(name)
    arguments = "--backend", name, "--grad", "out.npy", "--json"
    report = json.loads(evaluate(capsys, *arguments, logits=f"{logits}.npy"))
    value, gradient = al.value_and_grad(al.DiceLoss())(files[logits], files["labels"])
    assert (report["backend"], report["dtype"]) == (name, str(value.dtype))
    precision = 1e-12 if logits == "logits" else 1e-6
    assert report["value"] == pytest.approx(float(value), rel=precision)
    written = np.load("out.npy")
    assert written.dtype == gradient.dtype
    np.testing.assert_allclose(written, gradient, rtol=0, atol=precision * np.abs(gradient).max())


def test_jax_is_left_as_it_was(capsys, files):
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", False)
        report = json.loads(evaluate(capsys, "--backend", "jax", "--json"))
        assert report["dtype"] == "float64"
        assert jax.config.jax_enable_x64 is False
    finally:
        jax.config.update("jax_enable_x64", before)


def test_evaluate_reads_any_layout_and_byte_order(capsys, files):
    np.save("swapped.npy", np.asfortranarray(files["logits"]).astype(">f8"))
    np.save("swapped_labels.npy", files["labels"].astype(">i2"))
    value = evaluate(capsys, logits="swapped.npy", target="swapped_labels.npy")
    assert float(value) == pytest.approx(float(al.dice_loss(files["logits"], files["labels"])), rel=1e-14)


def pair_loss(logits, target, *, ignore_index=255):
    """Penalise as cross entropy does, times the mean of a second score."""
    if not isinstance(logits, tuple):
        raise TypeError("pair_loss: logits is one array, expected two")
    scores, edge = logits
    xp = edge.__array_namespace__()
    return al.cross_entropy_loss(scores, target, ignore_index=ignore_index) * xp.mean(edge)


class PairLoss(Loss, function=pair_loss):
    ignore_index: int | None = 255


@pytest.fixture
def one_more_loss(monkeypatch):
    """Make public a loss that the command line has never heard of."""
    monkeypatch.setattr(al, "PairLoss", PairLoss, raising=False)
    monkeypatch.setattr(al, "__all__", [*al.__all__, "PairLoss"])


@pytest.mark.usefixtures("one_more_loss")
def test_evaluate_several_logits(capsys, files):
    report = json.loads(evaluate(capsys, "--logits", "edge.npy", "--grad", "out.npy", "--json", loss="pair"))
    value, gradients = al.value_and_grad(PairLoss())((files["logits"], files["edge"]), files["labels"])
    assert report["value"] == value
    assert report["gradient"] == ["out.npy", "out.1.npy"]
    for name, gradient in zip(report["gradient"], gradients, strict=True):
        np.testing.assert_array_equal(np.load(name), gradient)


def random_trials():
    random = np.random.default_rng(4)
    labels = random.integers(0, 11, (1, SIDE, SIDE)).astype("uint8")
    labels[0, 0] = 255
    found = trials.trials(random.normal(size=(1, 11, SIDE, SIDE)), labels)
    return {type(trial.loss).__name__: trial for trial in found}


@pytest.mark.once
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_evaluate_takes_every_loss(capsys, files, name):
    trial = random_trials()[name]
    several = isinstance(trial.logits, tuple)
    given = {"target": trial.target, **trial.arrays}
    given |= {f"logits{i}": x for i, x in enumerate(trial.logits if several else (trial.logits,))}
    for key, array in given.items():
        np.save(f"{key}.npy", array)
    more = [word for key in trial.arrays for word in ("--array", f"{key}={key}.npy")]
    more += ["--logits", "logits1.npy"] if several else []
    more += [word for key, value in vars(trial.loss).items() for word in ("--option", f"{key}={value}")]
    found = evaluate(capsys, *more, "--grad", "out.npy", loss=name, logits="logits0.npy", target="target.npy")
    value, gradient = al.value_and_grad(trial.loss)(trial.logits, trial.target, **trial.arrays)
    assert float(found) == value
    np.testing.assert_array_equal(np.load("out.npy"), gradient[0] if several else gradient)


@pytest.mark.usefixtures("one_more_loss")
def test_a_loss_of_no_family_is_one_of_its_module():
    assert catalog.families()[__doc__.partition("\n")[0].rstrip(".")] == [PairLoss]


@pytest.mark.usefixtures("one_more_loss")
def test_demo_finds_inputs_for_a_new_loss():
    found = random_trials()
    assert sorted(found) == sorted([*LOSSES, "PairLoss"])
    edge = found["PairLoss"].logits[1]
    assert edge.shape == (1, 1, SIDE, SIDE)
    assert set(np.unique(edge)) == {0.0, 1.0}
    for trial in found.values():
        done = trials.outcome(trials.in_float64(trial), open_backend("numpy"))
        assert np.isfinite(done.value)
        # Ignored pixels are ignored in whatever form the labels are given, where there is a score for each.
        assert done.gradients[0].ndim != 4 or np.all(done.gradients[0][:, :, 0] == 0)


ERRORS = {
    "no such loss": (["--loss", "dyce"], ["no loss 'dyce'", "did you mean DiceLoss?", *LOSSES]),
    "no such option": (["--option", "smoth=1"], ["no option 'smoth'", "did you mean smooth?", "smooth=0.0"]),
    "option without value": (["--option", "smooth"], ["--option is 'smooth'", "NAME=VALUE"]),
    "option twice": (["--option", "smooth=1", "--option", "smooth=2"], ["smooth is given twice"]),
    "option out of range": (["--option", "smooth=-1"], ["dice_loss: smooth is -1"]),
    "option of a wrong kind": (["--option", "smooth=much"], ["dice_loss: smooth is 'much'"]),
    "unknown reduction": (["--option", "reduction=median"], ["reduction is 'median'", "'mean'"]),
    "options missing": (["--loss", "mixed"], ["MixedLoss needs --option losses=... and --option coef=..."]),
    "no such loss in a mixture": (
        ["--loss", "mixed", "--option", "losses=dice,boundary9", "--option", "coef=1,1"],
        ["no loss 'boundary9'"],
    ),
    "no losses in a mixture": (["--loss", "mixed", "--option", "losses=3", "--option", "coef=1"], ["no loss '3'"]),
    "code in a mixture that makes no loss": (
        ["--loss", "mixed", "--option", "losses=DiceLoss(255), exit()", "--option", "coef=1,1"],
        ["--option losses is 'DiceLoss(255), exit()'", "DiceLoss(smooth=1.0)"],
    ),
    "no such option in a mixture": (
        ["--loss", "mixed", "--option", "losses=DiceLoss(smoth=1)", "--option", "coef=1"],
        ["DiceLoss has no option 'smoth'", "did you mean smooth?"],
    ),
    "no such array": (["--array", "weights=weight.npy"], ["no array 'weights'"]),
    "no such file": (["--target", "nowhere.npy"], ["--target nowhere.npy: No such file or directory"]),
    "a folder": (["--target", "."], ["--target .: "]),
    "no array in it": (["--target", "junk.npy"], ["--target junk.npy: no .npy file"]),
    "cut off": (["--target", "cut.npy"], ["--target cut.npy: no .npy file"]),
    "pickled": (["--target", "pickled.npy"], ["--target pickled.npy: no .npy file"]),
    "npz": (["--target", "several.npz"], ["--target several.npz: no .npy file"]),
    "shapes": (["--target", "wrong_shape.npy"], ["dice_loss: target has shape (2, 4, 6), expected (2, 4, 5)"]),
    "label out of range": (["--target", "bad_labels.npy"], ["dice_loss: target holds the label 7"]),
    "float labels": (["--target", "float_labels.npy"], ["dice_loss: target has dtype float64"]),
    "complex logits": (["--loss", "mse", "--logits", "complex.npy"], ["arrayloss: error: "]),
    "two logits where one is due": (["--logits", "edge.npy"], ["arrayloss: error: "]),
    "no such backend": (["--backend", "tensorflow"], ["--backend", "tensorflow", "numpy"]),
    "gradient to nowhere": (["--grad", "nowhere/out.npy"], ["--grad nowhere/out.npy: No such file or directory"]),
    "no such argument": (["--frobnicate"], ["--frobnicate", "--help"]),
}


@pytest.mark.parametrize(("arguments", "words"), ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.usefixtures("files")
def test_evaluate_errors(capsys, arguments, words):
    given = ["--loss", "dice", "--logits", "logits.npy", "--target", "labels.npy", *arguments]
    assert main(["evaluate", *given]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_one_line(printed.err, *words)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.usefixtures("files")
def test_evaluate_integer_logits_on_a_backend(capsys, name):
    pytest.importorskip(name)
    arguments = "--loss", "dice", "--logits", "wrong_shape.npy", "--target", "labels.npy", "--grad", "out.npy"
    assert main(["evaluate", *arguments, "--backend", name]) == 2
    assert_one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("files")
def test_errors_in_a_process_of_its_own(tmp_path):
    done = cli("evaluate", "--loss", "dice", "--logits", "logits.npy", "--target", "wrong_shape.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "dice_loss: target has shape (2, 4, 6)")


@pytest.mark.usefixtures("files")
def test_backend_that_is_not_installed(hidden, tmp_path):
    arguments = "--loss", "dice", "--logits", "logits.npy", "--target", "labels.npy", "--backend", "torch"
    done = cli("evaluate", *arguments, cwd=tmp_path, first=(hidden("torch"),))
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, 'torch: not installed: pip install "arrayloss[torch]"')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ["train", "evaluate"]),
        (["--steps", "0"], ["--steps", "'0'"]),
        (["--steps", "many"], ["--steps", "positive integer"]),
        (["evaluate"], ["--loss", "--logits", "--target"]),
        (["backends", "--all"], ["--all"]),
        (["losses", "dyce"], ["no loss 'dyce'", "did you mean DiceLoss?"]),
    ],
)
def test_argument_errors(capsys, arguments, words):
    assert main(arguments) == 2
    assert_one_line(capsys.readouterr().err, *words)


@pytest.mark.parametrize("path", ["nowhere/demo.png", "demo.docx", "."])
def test_plot_that_cannot_be_written(capsys, path, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["--plot", path]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""  # said before the training
    assert_one_line(printed.err, f"--plot {path}: ")


# backends


def test_backends(tmp_path):
    done = cli("backends", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["arrayloss"] == al.__version__
    assert list(report["backends"]) == list(NAMES)
    assert report["backends"]["numpy"] == {
        "installed": True,
        "version": np.__version__,
        "devices": ["cpu"],
        "note": "",
        "runs": True,
    }
    for name in ("torch", "jax"):
        found = report["backends"][name]
        assert found["installed"] is found["runs"] is (name in INSTALLED)
        assert bool(found["devices"]) is (name in INSTALLED)
    cupy = report["backends"]["cupy"]
    assert cupy["runs"] or "checked against CuPy's interface by the tests, not run here" in cupy["note"]


def test_backends_survives_broken_installations(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    stub(broken, "torch", "raise OSError('libtorch.so: no\\nsuch file')\n")
    stub(broken, "jax", "__version__ = '0.0'\ndef devices(): raise RuntimeError('no plug-in')\n")
    stub(broken, "cupy", "import no_such_module\n")
    done = cli("backends", cwd=tmp_path, first=(broken,))
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be imported: OSError: libtorch.so: no such file\n" in done.stdout
    assert "finds no device: no plug-in\n" in done.stdout
    assert "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'\n" in done.stdout


def test_backends_table(tmp_path):
    done = cli("backends", "--table", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    text = cli("backends", "--table", cwd=tmp_path).stdout
    for library, ways in capabilities.WAYS.items():
        assert list(table[library]["losses"]) == sorted(LOSSES)
        assert f"{library}: {', '.join(table[library]['dtypes'])}" in text
        for name, works in table[library]["losses"].items():
            assert list(works) == list(ways)
            assert all(v is True or v == capabilities.limit(name, library, way).reason for way, v in works.items())


# losses


def test_losses(capsys):
    assert main(["losses"]) == 0
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    listed = {family: [line.split()[0] for line in lines] for family, *lines in blocks}
    assert sorted(name for names in listed.values() for name in names) == sorted(LOSSES)
    assert listed["Hard pixels"] == [x for x in sorted(LOSSES) if x.startswith(("Ohem", "Boot", "EdgeA"))]
    assert all(line.startswith("  ") and line.endswith(".") for _, *lines in blocks for line in lines)
    # None is of a family of its own because the list has not been told of it.
    assert set(listed) == {*catalog._FAMILIES}
    assert main(["losses", "--json"]) == 0
    for found in json.loads(capsys.readouterr().out):
        assert found["loss"] in listed[found["family"]]
        loss = LOSSES[found["loss"]]
        given = {"losses": [al.DiceLoss()], "coef": [1.0], "min_K": 1, "loss_th": 0.5}
        made = loss(**{name: given[name] for name in found["required"]}, **found["options"])
        assert made == loss(**{name: given[name] for name in found["required"]})
        assert getattr(al, found["function"]) is loss.function
        assert {**dict.fromkeys(found["arrays"])}.keys() <= set(inspect.signature(loss.function).parameters)


def test_losses_by_name(capsys):
    assert main(["losses", "dice", "MixedLoss"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"^DiceLoss\(ignore_index=255, smooth=0.0, \*, weight=None, .*reduction='mean', axis=1\)$", out, re.M
    )
    assert "MixedLoss(losses, coef, " in out
    assert inspect.getdoc(al.DiceLoss) in out


# The whole.


@pytest.mark.once
def test_help_imports_no_array_library(tmp_path):
    code = (
        "import sys\n"
        "from arrayloss.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'numpy', 'torch', 'jax', 'cupy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
    )
    helps = ([*command, "--help"] for command in ([], ["demo"], ["evaluate"], ["losses"], ["backends"]))
    for arguments in (*helps, ["--version"]):
        done = python("-c", code, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        words = [f"arrayloss {al.__version__}\n"] if arguments == ["--version"] else ["examples", "exit status:\n"]
        assert all(word in done.stdout for word in words)


def test_interrupted(capsys, monkeypatch):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("arrayloss.__main__._run", interrupt)
    assert main([]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.once
@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error on Windows")
def test_reader_that_has_had_enough(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "arrayloss", "backends"],
            stdout=nobody,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")

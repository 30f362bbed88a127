"""What an import loads, seen from fresh interpreters; what the package exports; and what it says to two libraries."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS

import arrayloss as al

#: What importing arrayloss must not load, by the name of the package.
LIBRARIES = ("numpy", "torch", "jax", "jaxlib", "cupy", "array_api_compat", "array_api_strict", "scipy", "sklearn")
LIBRARIES += ("matplotlib",)


def loaded_by(code: str) -> set[str]:
    """Return which of the libraries a fresh interpreter has loaded after running some code."""
    report = f"import sys; print(*(m for m in {LIBRARIES!r} if m in sys.modules))"
    root = Path(al.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:arrayloss", "-c", f"{code}\n{report}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return set(found.stdout.split())


def needs(*names: str) -> Any:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


@pytest.mark.once
@pytest.mark.parametrize(
    "code",
    [
        "import arrayloss",
        "from arrayloss import *",
        "import arrayloss as al; al.CrossEntropyLoss([1.0, 2.0], ignore_index=None)",
        "import arrayloss as al; repr(al.MixedLoss([al.DiceLoss(), al.BCELoss('dynamic')], [1, 2]))",
        "import arrayloss as al, pickle; l = al.DiceLoss(weight=(1.0, 2.0)); "
        "assert pickle.loads(pickle.dumps(l)) == l and hash(l)",
        "import arrayloss as al; al.value_and_grad(al.L1Loss())",
        "import arrayloss as al\ntry: al.CrossEntropyLoss(ignore_index='x')\nexcept TypeError: pass",
        "import arrayloss as al\ntry: al.dice_loss([[1.0]], [0])\nexcept TypeError as e: assert 'an array' in str(e)",
        "import arrayloss as al, inspect, pydoc\n[inspect.signature(getattr(al, n)) for n in al.__all__]\n"
        "pydoc.render_doc(al)",
    ],
    ids=["import", "star", "construct", "repr", "pickle", "value_and_grad", "option", "no array", "help"],
)
def test_importing_and_constructing_load_no_array_library(code: str) -> None:
    assert not loaded_by(code)


NUMPY_CALL = """
import numpy as np, arrayloss as al
x, y = np.zeros((2, 3, 4, 4)), np.ones((2, 4, 4), dtype=np.uint8)
for loss in (al.CrossEntropyLoss([1, 2, 3], top_k_percent_pixels=0.5), al.BCELoss("dynamic"), al.DiceLoss()):
    value, gradient = al.value_and_grad(loss)(x, y)
al.MSELoss()(x, x)
al.label_edges(y)
"""


def test_a_call_on_numpy_loads_numpy_alone() -> None:
    assert loaded_by(NUMPY_CALL) == {"numpy", "array_api_compat"}


@needs("torch")
def test_a_call_on_torch_loads_no_other_library() -> None:
    code = (
        "import torch, arrayloss as al\n"
        "x, y = torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.uint8)\n"
        "al.value_and_grad(al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss()], [1, 1]))(x, y)"
    )
    assert not loaded_by(code) & {"jax", "jaxlib", "cupy", "array_api_strict", "sklearn", "matplotlib"}


@needs("jax")
def test_a_call_on_jax_loads_no_other_library() -> None:
    code = (
        "import jax.numpy as jnp, arrayloss as al\n"
        "x, y = jnp.zeros((2, 3, 4)), jnp.ones((2, 4), dtype=jnp.uint8)\n"
        "al.value_and_grad(al.CrossEntropyLoss())(x, y)"
    )
    assert not loaded_by(code) & {"torch", "cupy", "array_api_strict", "sklearn", "matplotlib"}


@needs("array_api_strict")
def test_a_call_on_another_library_loads_no_third() -> None:
    code = (
        "import array_api_strict as xp, arrayloss as al\n"
        "al.value_and_grad(al.DiceLoss())(xp.zeros((2, 3, 4)), xp.ones((2, 4), dtype=xp.uint8))"
    )
    assert not loaded_by(code) & {"torch", "jax", "cupy", "sklearn", "matplotlib"}


# Names --------------------------------------------------------------------------------------------------------------


def test_version() -> None:
    assert al.__version__.count(".") == 2
    try:
        installed = importlib.metadata.version("arrayloss")
    except importlib.metadata.PackageNotFoundError:
        return  # run from the source tree
    assert installed == al.__version__


def test_the_public_names() -> None:
    """`__all__` is sorted and holds every class, its function, and nothing that is not there."""
    assert list(al.__all__) == sorted(al.__all__)
    assert len(set(al.__all__)) == len(al.__all__)
    assert all(hasattr(al, name) for name in al.__all__)
    public = {
        name
        for name, x in vars(al).items()
        if not name.startswith("_") and getattr(x, "__module__", "").startswith("arrayloss")
    }
    assert public == set(al.__all__)
    classes = [x for x in vars(al).values() if isinstance(x, type) and issubclass(x, al.Loss) and x is not al.Loss]
    for loss in classes:
        assert loss.function.__name__ in al.__all__
        assert getattr(al, loss.function.__name__) is loss.function
    assert {"Loss", "value_and_grad", "label_edges"} <= set(al.__all__)


def test_no_family_of_losses_is_an_attribute_of_the_package() -> None:
    """`al.dice(...)` is no module that is not callable, but a name that is not there."""
    families = [path.stem for path in (Path(al.__file__).parent / "losses").glob("[a-z]*.py")]
    assert "dice" in families
    assert "cross_entropy" in families
    assert not [name for name in families if hasattr(al, name)]


def test_pickles_of_before_losses_had_a_room_of_their_own() -> None:
    """They name `arrayloss.dice`, as do those of an older version; what is pickled now names where it is."""
    loss = al.DiceLoss(smooth=1.0)
    new = pickle.dumps(loss, protocol=0)
    old = new.replace(b"arrayloss.losses.dice", b"arrayloss.dice")
    assert old != new
    assert pickle.loads(old) == pickle.loads(new) == loss


def test_every_public_name_is_documented() -> None:
    for name in al.__all__:
        doc = getattr(al, name).__doc__
        assert doc, name
        assert doc[0].isupper(), name


# Two libraries ------------------------------------------------------------------------------------------------------

PAIRS = [(a, b) for a in ("numpy", "torch", "jax", "strict") for b in ("numpy", "torch", "jax", "strict") if a != b]
MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "strict": "array_api_strict"}
CONVERSIONS = {
    "numpy": r"numpy\.asarray\({0}\)",
    "torch": r"torch\.as_tensor\({0}\)",
    "jax": r"jax\.numpy\.asarray\({0}\)",
    "strict": r"array_api_strict\.asarray\({0}\)",
}


def pair(first: str, second: str) -> tuple[Any, Any]:
    for name in (first, second):
        if (missing := BACKENDS[name].available()) is not None:
            pytest.skip(missing)
    return BACKENDS[first], BACKENDS[second]


def message(function: str, argument: str, other: str, first: str, second: str) -> str:
    """Return the pattern of an error that names both arguments, both libraries and the conversion.

    JAX adds lines of its own to what is raised within its autodiff.
    """
    return (
        rf"^{function}: {argument} is an array of {MODULES[first]} but {other} is an array of {MODULES[second]}; "
        rf".*convert with {CONVERSIONS[first].format(other)}(\n|$)"
    )


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_logits_and_target_of_two_libraries(first: str, second: str) -> None:
    a, b = pair(first, second)
    x, y = a.array(np.zeros((2, 3, 4))), b.array(np.zeros((2, 4), dtype=np.int64))
    for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.BCELoss()):
        for call in (loss, al.value_and_grad(loss)):
            with pytest.raises(
                TypeError, match=message(type(loss).function.__name__, "logits", "target", first, second)
            ):
                call(x, y)
    same = b.array(np.zeros((2, 3, 4)))
    for loss in (al.L1Loss(), al.MSELoss()):
        with pytest.raises(TypeError, match=message(type(loss).function.__name__, "logits", "target", first, second)):
            loss(x, same)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_further_array_of_another_library(first: str, second: str) -> None:
    a, b = pair(first, second)
    x, y = a.array(np.zeros((2, 3, 4))), a.array(np.zeros((2, 4), dtype=np.int64))
    with pytest.raises(TypeError, match=message("kl_div_loss", "logits", "labels", first, second)):
        al.kl_div_loss(x, x, labels=b.array(np.zeros((2, 4), dtype=np.int64)))
    if second == "numpy":
        return  # its weights serve every library
    with pytest.raises(TypeError, match=message("cross_entropy_loss", "logits", "pixel_weight", first, second)):
        al.cross_entropy_loss(x, y, pixel_weight=b.array(np.ones((2, 4))))
    for function in (al.cross_entropy_loss, al.dice_loss):
        with pytest.raises(TypeError, match=message(function.__name__, "logits", "weight", first, second)):
            function(x, y, weight=b.array(np.ones(3)))


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_tuple_of_logits_of_two_libraries(first: str, second: str) -> None:
    a, b = pair(first, second)
    logits = a.array(np.zeros((2, 3, 4))), b.array(np.zeros((2, 1, 4)))
    with pytest.raises(TypeError, match=message("value_and_grad", r"logits\[0\]", r"logits\[1\]", first, second)):
        al.value_and_grad(lambda x, t: x[0])(logits, None)


NO_ARRAYS = [([[1.0]], "list"), (1.0, "float"), (None, "NoneType"), ("x", "str"), (np.ma.zeros((1, 2)), "MaskedArray")]


@pytest.mark.parametrize(("x", "name"), NO_ARRAYS, ids=[name for _, name in NO_ARRAYS])
def test_what_is_no_array(x: Any, name: str) -> None:
    logits, target = np.zeros((1, 2)), np.zeros(1, dtype=np.int64)
    for function in (al.cross_entropy_loss, al.mse_loss, al.value_and_grad(al.CrossEntropyLoss())):
        with pytest.raises(TypeError, match=rf"logits is a [\w.]*{name}, expected an array of NumPy, CuPy, torch, JAX"):
            function(x, target)
        with pytest.raises(TypeError, match=rf"target is a [\w.]*{name}, expected an array of NumPy, CuPy, torch, JAX"):
            function(logits, x)


def test_a_message_does_not_depend_on_a_library_that_is_merely_loaded() -> None:
    """Libraries are told by the type of the array, whatever else is in the process."""
    x, y = np.zeros((2, 3)), np.zeros(2, dtype=np.int64)
    expected = al.CrossEntropyLoss()(x, y)
    for name in ("torch", "jax"):
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    np.testing.assert_array_equal(al.CrossEntropyLoss()(x, y), expected)

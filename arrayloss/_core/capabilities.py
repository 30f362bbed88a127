"""What works where, as data: the tests take their marks from it, the command line prints it.

A way of running a loss that is listed works for every loss and every dtype of its library, unless `LIMITS` says
otherwise, with the reason. A limit is tested as a strict expected failure, so that one that is gone is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

#: How a loss is run on each library. "gradient" is `value_and_grad`, and the library's own autodiff where it has one.
WAYS: dict[str, tuple[str, ...]] = {
    "numpy": ("value", "gradient"),
    "cupy": ("value", "gradient"),
    "array-api": ("value", "gradient"),
    "torch": ("value", "gradient", "compile", "func.grad", "vmap"),
    "jax": ("value", "gradient", "jit", "vmap", "hessian"),
}
#: Dtypes of the logits on each library; any other array API library has at least those of array-api-strict.
DTYPES: dict[str, tuple[str, ...]] = {
    "numpy": ("float64", "float32", "float16", "bfloat16"),
    "cupy": ("float64", "float32", "float16"),
    "array-api": ("float64", "float32"),
    "torch": ("float64", "float32", "float16", "bfloat16"),
    "jax": ("float64", "float32", "float16", "bfloat16"),
}
#: Libraries of which no kernel is run where there is no GPU; their calls are checked against the real interface.
UNTRIED: dict[str, str] = {"cupy": "checked against CuPy's interface; run by `nox -s cupy` where there is a GPU"}


@dataclass(frozen=True)
class Limit:
    """Something listed above that does not work: of a loss (None: of all), on a library, run in a way."""

    loss: str | None
    library: str
    way: str
    reason: str


LIMITS: tuple[Limit, ...] = ()


def limit(loss: str, library: str, way: str) -> Limit | None:
    """Return what keeps a loss from being run in a way on a library, or None."""
    for found in LIMITS:
        if found.loss in (None, loss) and (found.library, found.way) == (library, way):
            return found
    return None

"""All formulas as Triton kernels, and the words of theirs, a line of JSON about each: [formula, error or null].

python triton_runs.py interpret    beside the portable machine, on the CPU
python triton_runs.py compile      for GPUs of several kinds, with none at hand
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1" if sys.argv[1] == "interpret" else "0"

import array_api_compat.numpy as xp
import formulas
import numpy as np
import torch
import triton
import triton_port as port

from arrayloss._machines.formula import Formula, OfClasses
from arrayloss._machines.generic.classes import classes
from arrayloss._machines.generic.entries import entry_losses
from arrayloss._machines.generic.regions import regions

#: Both sides round in float32, sums among them; here losses and slopes are of the order of 1.
CLOSE = {"rtol": 2e-5, "atol": 4e-6}
N, C, P = 2, 5, 41


def on_device(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


def compare(what: str, found: torch.Tensor, expected: np.ndarray, numbers: tuple[Any, ...]) -> None:
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE, err_msg=f"{what} of {numbers}")


def some(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * 3.0).astype(np.float32)


def of_entries(name: str, formula: Formula, given: formulas.Given) -> None:
    rng = np.random.default_rng(0)
    size = 300
    x, t = some(rng, size), rng.random(size, dtype=np.float32)
    # What is right and what is on the margin.
    x[:4], t[:8], t[8:16] = 0.0, 0.0, 1.0
    if given.kind in ("entropy", "count"):
        x, t = np.abs(x), t * 4.0
    valid = rng.random(size) < 0.8
    with_nan = np.where(valid, x, np.float32(np.nan))
    for numbers in given.options("float32"):
        # A rate of 0 under a logarithm is infinite.
        with np.errstate(all="ignore"):
            losses, vjp = entry_losses(xp, with_nan, t, valid, formula, *numbers)
            slopes = vjp(np.ones_like(x))
        out = torch.empty(4, size)
        port.entries[(triton.cdiv(size, 128),)](
            *map(on_device, (with_nan, t, valid.astype(np.int8))),
            out[0], out[1], out[2:], size, BLOCK=128, **port.constants(formula, numbers),
        )  # fmt: skip
        compare("losses", out[0], losses, numbers)
        compare("slopes", out[1], slopes, numbers)
        if formula.both is not None:
            compare("losses of both", out[2], losses, numbers)
            compare("slopes of both", out[3], slopes, numbers)


def of_classes(name: str, formula: Formula, given: formulas.Given) -> None:
    rng = np.random.default_rng(0)
    z, g = some(rng, N, C, P), rng.random((N, P), dtype=np.float32)
    labels = rng.integers(0, C, (N, P), dtype=np.int32)
    valid = rng.random((N, P)) < 0.8
    z = np.where(valid[:, None], z, np.float32(np.nan))
    t = some(rng, N, C, P)
    if given.kind != "teacher":
        t = np.exp(t) * (rng.random(t.shape) < 0.8)
        t = (t / np.maximum(t.sum(1, keepdims=True), 1e-3)).astype(np.float32)
    field = some(rng, N, C, P) if given.kind == "field" else None
    scale = 0.5 if given.kind == "teacher" else 1.0
    for numbers in given.options("float32"):
        how = OfClasses(formula, numbers, given.kind if given.kind in ("teacher", "gap") else "target", scale)
        aim = labels.astype(np.int64) if given.kind == "gap" else t
        losses, vjp = classes(xp, z, aim, field, valid, None, how)
        out, dz = torch.empty(N, P), torch.empty(N, C, P)
        port.classes[(triton.cdiv(P, 32), N)](
            *map(on_device, (z, t, t if field is None else field, labels, valid.astype(np.int8), g)),
            out, dz, P, C=C, KIND=given.kind, SCALE=scale, BC=8, BP=32, **port.constants(formula, numbers),
        )  # fmt: skip
        compare("losses", out, losses, numbers)
        compare("slopes", dz, vjp(g), numbers)


def of_regions(name: str, formula: Formula, given: formulas.Given) -> None:
    rng = np.random.default_rng(0)
    z, t = some(rng, N, C, P), rng.random((N, C, P), dtype=np.float32)
    valid = rng.random((N, P)) < 0.8
    z = np.where(valid[:, None], z, np.float32(np.nan))
    count = len(formula.losses(xp, t[0, 0], t[0, 0], *given.options("float32")[0]))
    g = rng.random((count, N, C), dtype=np.float32)
    for numbers in given.options("float32"):
        sums, vjp = regions(xp, z, t, valid, "softmax", formula, *numbers)
        out, dz = torch.empty(count, N, C), torch.empty(N, C, P)
        port.regions[(N,)](
            *map(on_device, (z, t, valid.astype(np.int8), g)),
            out, dz, P, C=C, K=count, BC=8, BP=32, STEPS=triton.cdiv(P, 32), **port.constants(formula, numbers),
        )  # fmt: skip
        compare("sums", out, sums, numbers)
        compare("slopes", dz, vjp(g), numbers)


def of_words() -> None:
    """What the language lacks has all its digits, and its limits."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(-85.0, 85.0, 4000))
    chances = np.exp(rng.uniform(-43.0, 0.0, 4000))
    signed = sizes * rng.choice([-1.0, 1.0], sizes.size)
    limits = np.asarray([0.0, -0.0, np.inf, np.nan])
    powers = {(e,): lambda x, e=e: x**e for e in (1.7, -0.3, 5.0, 0.1)}
    for word, x, forms in (
        ("exp", np.concatenate([rng.uniform(-87.0, 88.7, 4000), limits, -limits]), {(): np.exp}),
        ("expm1", np.concatenate([signed, limits, -limits]), {(): np.expm1}),
        ("log1p", np.concatenate([sizes, -chances[chances < 0.999], limits]), {(): np.log1p}),
        ("log", np.concatenate([sizes, limits[:2]]), {(): np.log}),
        ("tanh", np.concatenate([signed, limits, -limits]), {(): np.tanh}),
        ("sign", np.concatenate([signed, limits]), {(): np.sign}),
        ("sqrt", np.concatenate([sizes, limits]), {(): np.sqrt}),
        ("pow", chances, powers),
    ):
        x = x.astype(np.float32)
        for numbers, form in forms.items():
            out = torch.empty(x.size)
            how = {"WORD": getattr(port.XP, word), "NUMBERS": numbers, "BLOCK": 512}
            port.words[(triton.cdiv(x.size, 512),)](on_device(x), out, x.size, **how)
            with np.errstate(all="ignore"):
                expected = form(x.astype(np.float64)).astype(np.float32)
            np.testing.assert_allclose(out.numpy(), expected, rtol=6e-7, atol=2.0**-126, err_msg=f"{word} {numbers}")


INTERPRETED: dict[str, Callable[[str, Formula, formulas.Given], None]] = {
    "entries": of_entries,
    "classes": of_classes,
    "regions": of_regions,
}


#: A formula of each shape and some of the words, compiled for all targets; the others for the first.
EVERYWHERE = ("formula.BINARY", "likelihood._RATE", "robust_regression._LOG_COSH", "formula.CROSS", "margin._GAP")
EVERYWHERE += ("formula.AREAS", "areas._ERRORS")


def targets() -> list[Any]:
    """Return the kinds of GPU that this build of Triton compiles for: two of NVIDIA's and one of AMD's."""
    from triton.backends import backends
    from triton.backends.compiler import GPUTarget

    wanted = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32), GPUTarget("hip", "gfx942", 64)]
    return [target for target in wanted if any(b.compiler.supports_target(target) for b in backends.values())]


class NoDevice:
    """A driver of a GPU that is not there."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0


def compiled(name: str, formula: Formula, given: formulas.Given) -> None:
    from triton.compiler import ASTSource

    real, mask = "*fp32", "*i8"
    if given.shape == "entries":
        kernel, sizes = port.entries, {"BLOCK": 256}
        arguments = {"x": real, "t": real, "valid": mask, "losses": real, "slopes": real, "both": real, "N": "i32"}
    elif given.shape == "classes":
        kernel = port.classes
        sizes = {"C": 19, "KIND": given.kind, "SCALE": 1.0, "BC": 32, "BP": 32}
        arguments = {**dict.fromkeys(("z", "t", "field"), real), "labels": "*i32", "valid": mask}
        arguments |= {**dict.fromkeys(("g", "losses", "dz"), real), "P": "i32"}
    else:
        count = len(formula.losses(xp, np.ones(1), np.ones(1)))
        kernel, sizes = port.regions, {"C": 19, "K": count, "BC": 32, "BP": 32, "STEPS": 4}
        arguments = {"z": real, "t": real, "valid": mask, "g": real, "sums": real, "dz": real, "P": "i32"}
    for place, target in enumerate(targets()):
        triton.runtime.driver.set_active(NoDevice(target))
        options = given.options("float32")
        # Options choose branches of the text, which are the same for all targets, as its words are.
        for numbers in options if place == 0 else options[-1:] if name in EVERYWHERE else ():
            values = {**sizes, **port.constants(formula, numbers)}
            signature = {**arguments, **dict.fromkeys(values, "constexpr")}
            made = triton.compile(ASTSource(kernel, signature, constexprs=values), target=target)
            assert made.asm["cubin" if target.backend == "cuda" else "hsaco"]


def tell(name: str, function: Callable[..., None], *args: Any) -> None:
    error = None
    try:
        function(*args)
    except Exception:
        error = traceback.format_exc()
    print(json.dumps([name, error]), flush=True)


def main() -> None:
    assert set(EVERYWHERE) <= set(formulas.found())
    if sys.argv[1] == "interpret":
        tell("words", of_words)
    else:
        print(json.dumps(["targets", [str(target.arch) for target in targets()]]), flush=True)
    for name, formula in formulas.found().items():
        given = formulas.GIVEN[name]
        tell(name, INTERPRETED[given.shape] if sys.argv[1] == "interpret" else compiled, name, formula, given)


if __name__ == "__main__":
    main()

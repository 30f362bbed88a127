"""Formulas in float32 beside the same text in float64, over all of float32.

    python formula_sweep.py NAME ...    all 2^32 scores, of the formulas named, such as focal._FOCAL (without: of all)

A result is right if it is within 1e-6 of that in float64 where that is a normal number of float32, and infinite or as
large as there is where that is beyond; it is NaN only where that is. `ALLOWED` says what is allowed besides, and why.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat.numpy as xp
import formulas
import numpy as np

Array = np.ndarray
#: A rounding in float32, and a little more: what the exponentials of NumPy are off by.
EPS = 2.0**-22
LEAST, SMALLEST, LARGEST = 2.0**-63, 2.0**-126, float(np.finfo(np.float32).max)
CLOSE = 1e-6
#: Scores at a time, so few that all arrays of them stay in the cache.
BLOCK = 2**15

TARGETS: dict[str, tuple[float, ...]] = {
    "score": (0.0, 1.0, 0.5, 0.3, 0.999),
    "difference": (0.0, 1.0, -3.7, 1e-20),
    "count": (0.0, 1.0, 2.5, 300.0),
    "rate": (0.0, 1.0, 2.5, 300.0),
    "entropy": (0.0,),
    "target": (1.0, 0.3, 0.0),
    "field": (0.0, 1.0, 0.3),
    "teacher": (-1e-3, -0.7, -30.0, -np.inf),
    "gap": (0.0, 1.0),
    "regions": (0.0, 1.0, 0.3),
}
#: The scores that there are: all, those of at least 0, log p, and p.
POSITIVE, LOGARITHMS, PROBABILITIES = ("rate", "entropy"), ("target", "field", "teacher"), ("regions",)


def kind_of(name: str) -> str:
    given = formulas.GIVEN[name]
    return "rate" if name == "likelihood._RATE" else given.kind or given.shape


def arrays(kind: str, x: Array, t: float) -> tuple[Array, ...]:
    """Return what a formula is given, in float32."""
    full = np.full_like(x, t)
    if kind in ("target", "field", "teacher"):
        p = np.exp(x.astype(np.float64)).astype(np.float32)
        if kind == "teacher":
            q = np.full_like(x, np.exp(t))
            return (x, p, full, q) if t > -np.inf else (np.zeros_like(x), p, np.zeros_like(x), q)
        # Of a class without a share nothing counts that is infinite.
        log_p = x if t else np.zeros_like(x)
        return (log_p, p, full) if kind == "target" else (log_p, p, full, np.full_like(x, 2.5))
    if kind == "gap" and t:
        return np.zeros_like(x), full  # the label itself
    return x, full


def inside(kind: str, x: Array) -> Array:
    """Return those of all numbers that are scores of a kind."""
    if kind in POSITIVE:
        return x[x >= 0.0]
    if kind in LOGARITHMS:
        return x[x <= 0.0]
    if kind in PROBABILITIES:
        return x[(x >= 0.0) & (x <= 1.0)]
    return x[~np.isnan(x)]


def bits(start: int, step: int, offsets: Array | int = 0) -> Array:
    """Return the numbers of float32 whose bits, read as an integer, are every step-th from a start, plus offsets."""
    return (np.arange(start, 2**32, step, dtype=np.int64) + offsets).astype(np.uint32).view(np.float32)


def turns(kind: str, t: float) -> list[float]:
    """Return scores where something turns: the target, and margins of it."""
    if kind == "gap":
        return [0.0, -1.0, 0.5]
    if kind == "score" and t != 0.5:
        return [t, 1.0 / (2.0 * t - 1.0)]
    return [t] if np.isfinite(t) else []


def scores(count: int, rng: np.random.Generator, around: list[float]) -> Array:
    """Return so many numbers, spread evenly over the bits of float32, infinite ones, and what is next to some."""
    step = 2**32 // count
    next_to = [np.float32(x) + np.arange(-64, 65, dtype=np.float32) * np.spacing(np.float32(x)) for x in around]
    ends = np.asarray([0.0, -0.0, 1.0, -1.0, LARGEST, -LARGEST, np.inf, -np.inf], dtype=np.float32)
    return np.concatenate([bits(0, step, rng.integers(0, step, count)), *next_to, ends])


# What is allowed ------------------------------------------------------------------------------------------------------


def _log(x: Array) -> Array:
    return np.log(np.maximum(x, 1e-300))


def _sigmoid_slope_terms(x: Array, t: Array) -> Array:
    """sigmoid(x) - t is 0 somewhere: relative to both."""
    return EPS * (1.0 / (1.0 + np.exp(-x)) + t) * ((t > 0.0) & (t < 1.0))


def _rounding(number: float) -> float:
    """Return what a number is off by in float32."""
    return abs(float(np.float32(number)) - number)


def _focal(power: int) -> Callable[..., Array]:
    # Chances below the floor count as the floor, whose powers are finite. The exponent of a power is off by its own
    # rounding, and the power relative to that by the logarithm of the chance.
    def allowed(x: Array, t: Array, gamma: float, least: float) -> Array:
        missed = np.maximum(-np.expm1(-x), LEAST)
        size = missed**gamma * (x if power else 1.0 + gamma)
        off = np.abs(np.log(missed)) * max(_rounding(gamma), _rounding(gamma - 1.0)) * size
        return off + np.where(x < 2.0 * LEAST, (1.0 + gamma) * (2.0 * LEAST) ** (gamma + power), 0.0)

    return allowed


def _of_class(allowed: Callable[..., Array]) -> Callable[..., Array]:
    return lambda log_p, p, t, *numbers: t * allowed(-log_p, t, *numbers)


def _sigmoid_focal(x: Array, t: Array, gamma: float, positive: float, negative: float, *limits: float) -> Array:
    p, n = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))
    missed, near = np.maximum(t * n + (1.0 - t) * p, LEAST), np.minimum(np.abs(x), LARGEST)
    # Scores beyond 1 / least count as that, as the docstring says.
    beyond = np.where(np.abs(x) > 0.99 / LEAST, np.inf, 0.0)
    # The floor of chances, and the rounding of the exponent, as above.
    entropy = (1.0 - t) * np.where(x > 0.0, near, 0.0) + t * np.where(x < 0.0, near, 0.0) + np.log1p(np.exp(-near))
    off = np.abs(np.log(missed)) * _rounding(gamma) * missed**gamma * entropy
    return beyond + np.where(missed < 2.0 * LEAST, (2.0 * LEAST) ** gamma * entropy, off)


def _sigmoid_focal_slopes(x: Array, t: Array, gamma: float, positive: float, negative: float, *limits: float) -> Array:
    # Between a yes and a no the factor and the entropy pull in opposite directions.
    p, n = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))
    f = 1.0 - t
    missed, near = np.maximum(t * n + f * p, LEAST), np.minimum(np.abs(x), 1e3)
    entropy = f * np.maximum(x, 0.0) + t * np.maximum(-x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    scale = (negative + (positive - negative) * t) * missed ** (gamma - 1.0)
    terms = scale * (missed * (f * p + t * n) + gamma * np.minimum(entropy, 1e3) * np.abs(f - t) * p * n)
    between = (t > 0.0) & (t < 1.0)
    off = np.abs(np.log(missed)) * _rounding(gamma - 1.0) * terms + np.where(between, 2.0 * EPS * terms, 0.0)
    return np.where(missed < 2.0 * LEAST, (2.0 * LEAST) ** gamma * (1.0 + gamma * near), off)


def _asymmetric(which: str) -> Callable[..., Array]:
    # p less the shift, near 0: what another shift within a rounding of p would make of it. And floors, as above.
    def allowed(x: Array, t: Array, gamma_neg: float, gamma_pos: float, clip: float, *limits: float) -> Array:
        formula = formulas.found()["focal._ASYMMETRIC"]
        run = getattr(formula, which)
        middle = run(xp, x, t, gamma_neg, gamma_pos, clip, *limits)
        moved = [run(xp, x, t, gamma_neg, gamma_pos, clip * (1.0 + e), *limits) for e in (EPS, -EPS)]
        off = sum(np.abs(y - middle) for y in moved) if clip else np.zeros_like(x)
        beyond = np.where((np.abs(x) > 0.99 / LEAST) & (which == "losses"), np.inf, 0.0)
        p, n = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))
        between = np.where((t > 0.0) & (t < 1.0) & (which == "slopes"), EPS * (p + n), 0.0)
        floor = np.where(n < 2.0 * LEAST, (2.0 * LEAST) ** gamma_pos * (1.0 + gamma_pos) * 2.0, 0.0)
        # A chance that is no normal number has few digits, and may be worth one that is.
        few = np.where(n < SMALLEST, 2.0**-148 * (10.0 * gamma_neg + (1.0 / clip if clip else 0.0)), 0.0)
        return off + beyond + between + t * floor + few

    return allowed


def _margin(x: Array, t: Array) -> Array:
    """1 less (2 t - 1) x is 0 at the margin: relative to both. Of a yes or no (2 t - 1) x is exact, and so is 0."""
    return np.where((t > 0.0) & (t < 1.0), EPS * (1.0 + np.abs((2.0 * t - 1.0) * x)), 0.0)


def _short(x: Array, t: Array) -> Array:
    return 1.0 - (2.0 * t - 1.0) * x


def _hinge_slopes(x: Array, t: Array) -> Array:
    return np.where(np.abs(_short(x, t)) <= _margin(x, t), 1.0, 0.0)


def _squared_hinge(x: Array, t: Array, most: float) -> Array:
    return 3.0 * np.maximum(_short(x, t), _margin(x, t)) * _margin(x, t)


def _squared_hinge_slopes(x: Array, t: Array, most: float) -> Array:
    # From where the square is beyond all numbers, the slope grows no more.
    return 2.0 * _margin(x, t) + np.where(_short(x, t) > 0.99 * LARGEST**0.5, np.inf, 0.0)


def _stirling(t: Array, full: bool) -> Array:
    return np.where(full & (t > 1.0), (t + 0.5) * _log(t) + t + 1.0, 0.0)


def _log_rate(x: Array, t: Array, full: bool, largest: float) -> Array:
    """A rate less its share in the likelihood, and Stirling's terms: relative to all of them."""
    return np.where(
        t > 0.0, EPS * (np.exp(np.minimum(x, 89.0)) + t * np.minimum(np.abs(x), LARGEST) + _stirling(t, full)), 0.0
    )


def _rate(x: Array, t: Array, full: bool, eps: float) -> Array:
    # The logarithm of a number near 1 has the rounding of that number for its error: hence + 1.
    return np.where(t > 0.0, EPS * (x + t * (np.abs(_log(x + eps)) + 1.0) + _stirling(t, full)), 0.0)


def _generalized_slopes(x: Array, t: Array, q: float) -> Array:
    """The exponential of a product has the rounding of that for its relative error."""
    return 2.0 * EPS * q * np.minimum(x, 1e3) * np.exp(-q * x)


def _js(log_p: Array, p: Array, log_q: Array, q: Array, least: float) -> Array:
    """What all but cancels where p and q are close: relative to its terms. Where both are below the floor, nothing."""
    m = np.maximum(0.5 * (p + q), 1e-300)
    a, b = p / m, q / m
    terms = 0.25 * (p + q) * (np.abs(a * _log(a)) + np.abs(b * _log(b)) + np.abs(a - 1.0) + np.abs(b - 1.0))
    return EPS * terms + np.where(m < 2.0 * LEAST, p + q, 0.0)


def _js_slopes(log_p: Array, p: Array, log_q: Array, q: Array, least: float) -> Array:
    # Near the teacher the logarithm is that of a number near 1. Ratios below the floor count as the floor.
    m = np.maximum(0.5 * (p + q), 1e-300)
    return EPS * p + np.where((p / m < 2.0 * LEAST) | (m < 2.0 * LEAST), 44.0 * p, 0.0)


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("formula.BINARY", "slopes"): _sigmoid_slope_terms,
    ("focal._FOCAL", "losses"): _focal(1),
    ("focal._FOCAL", "slopes"): _focal(0),
    ("focal._FOCAL_OF_CLASS", "losses"): _of_class(_focal(1)),
    ("focal._FOCAL_OF_CLASS", "slopes"): _of_class(_focal(0)),
    ("focal._SIGMOID_FOCAL", "losses"): _sigmoid_focal,
    ("focal._SIGMOID_FOCAL", "slopes"): _sigmoid_focal_slopes,
    ("focal._ASYMMETRIC", "losses"): _asymmetric("losses"),
    ("focal._ASYMMETRIC", "slopes"): _asymmetric("slopes"),
    ("margin._HINGE", "losses"): _margin,
    ("margin._HINGE", "slopes"): _hinge_slopes,
    ("margin._SQUARED", "losses"): _squared_hinge,
    ("margin._SQUARED", "slopes"): _squared_hinge_slopes,
    ("likelihood._LOG_RATE", "losses"): _log_rate,
    ("likelihood._LOG_RATE", "slopes"): lambda x, t, *numbers: (
        EPS * np.where(t > 0.0, np.exp(np.minimum(x, 89.0)) + t, 0.0)
    ),
    ("likelihood._RATE", "losses"): _rate,
    ("likelihood._RATE", "slopes"): lambda x, t, full, eps: EPS * (1.0 + t / np.maximum(x + eps, 1e-300)),
    ("robust._GENERALIZED", "slopes"): _generalized_slopes,
    ("robust._GENERALIZED_OF_CLASS", "slopes"): _of_class(_generalized_slopes),
    ("robust._BOTH_WAYS", "slopes"): lambda log_p, p, t, alpha, beta, log_zero: (
        EPS * (beta * p * -log_zero + alpha * t)
    ),
    ("divergence._KL", "losses"): lambda log_p, p, log_q, q: EPS * (q * (np.abs(log_p) + np.abs(log_q) + 1.0) + p),
    ("divergence._JS", "losses"): _js,
    ("divergence._JS", "slopes"): _js_slopes,
}


# The comparison -------------------------------------------------------------------------------------------------------


def compared(found: Array, expected: Array, allowed: Array | float = 0.0) -> Array:
    """Return where a result in float32 is wrong."""
    size = np.abs(expected)
    off = np.abs(found.astype(np.float64) - expected)
    right = (off <= CLOSE * size + allowed) | (found == expected)
    # Below the normal numbers there are few digits, beyond the largest none.
    right |= (size < SMALLEST) & (np.abs(found) <= (1.0 + CLOSE) * SMALLEST)
    beyond, large = size > (1.0 - CLOSE) * LARGEST, np.abs(found) >= (1.0 - CLOSE) * LARGEST
    return ~(right | (beyond & large & (found * np.sign(expected) > 0.0)) | np.isnan(expected))


def wrong(name: str, x: Array, t: float, option: int) -> Iterator[str]:
    """Say where a formula is wrong, of all scores of its kind among some."""
    formula, given, kind = formulas.found()[name], formulas.GIVEN[name], kind_of(name)
    x = inside(kind, x)
    narrow = arrays(kind, x, t)
    wide = tuple(a.astype(np.float64) for a in narrow)
    of_narrow, of_wide = (given.options(dtype)[option] for dtype in ("float32", "float64"))
    with np.errstate(all="ignore"):
        both = None if formula.both is None else formula.both(xp, *narrow, *of_narrow)
        for at, (which, run) in enumerate((("losses", formula.losses), ("slopes", formula.slopes))):
            found, expected = run(xp, *narrow, *of_narrow), run(xp, *wide, *of_wide)
            pairs = list(zip(found, expected, strict=True)) if isinstance(found, tuple) else [(found, expected)]
            if both is not None:
                pairs.append((both[at], expected))
            for f, e in pairs:
                assert f.dtype == np.float32
                # Most are right, and quickly found to be.
                rest = np.flatnonzero(~(np.abs(f - e) <= CLOSE * np.abs(e)))
                if not rest.size:
                    continue
                f, e, args = f[rest], e[rest], tuple(a[rest] for a in wide)
                allow = ALLOWED.get((name, which))
                bad = compared(f, e, 0.0 if allow is None else allow(*args, *of_wide))
                if bad.any():
                    off = np.nan_to_num(np.abs(f - e) / np.maximum(np.abs(e), SMALLEST), nan=np.inf)
                    i = int(np.argmax(np.where(bad, off, -1.0)))
                    of = ", ".join(f"{float(a[i]):.9g}" for a in args)
                    values = f"{float(f[i]):.9g}, not {float(e[i]):.9g}"
                    yield f"{name}, {which} of ({of}) {of_narrow}: {values}; {int(bad.sum())} of {x.size}"


def cells(name: str) -> Iterator[tuple[float, int]]:
    for option in range(len(formulas.GIVEN[name].numbers)):
        for t in TARGETS[kind_of(name)]:
            yield t, option


def sweep(name: str, count: int) -> list[str]:
    """Return what is wrong of a formula at so many scores for each target and option."""
    rng, told = np.random.default_rng(0), []
    for t, option in cells(name):
        given = scores(count, rng, turns(kind_of(name), t))
        for start in range(0, given.size, BLOCK):
            told += wrong(name, given[start : start + BLOCK], t, option)
    return told


def everything(name: str) -> int:
    """Print what is wrong of a formula at all scores there are, each with one of the targets and options in turn."""
    began, said, each, step = time.monotonic(), 0, list(cells(name)), 2**32 // BLOCK
    for start in range(step):
        # A block has numbers of every exponent.
        for told in wrong(name, bits(start, step), *each[start % len(each)]):
            said += 1
            if said <= 5:
                print(told, flush=True)
    print(f"{name}: wrong in {said} of {step} blocks, {time.monotonic() - began:.0f} s", flush=True)
    return said


if __name__ == "__main__":
    sys.exit(sum(map(everything, sys.argv[1:] or formulas.found())) > 0)

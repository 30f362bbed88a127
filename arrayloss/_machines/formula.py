"""Formulas: what an entry, a class of a position or an entry of a region costs, and the words they are written in.

A formula is a plain function of a namespace `xp`, arrays of one shape and numbers. Machines run it: on whole arrays, on
tiles that stay in the cache, class by class, within a kernel. So that all of them can, it uses operators (but `**`:
`xp.pow`), comparisons as the mask of `where`, `xp.exp log log1p expm1 abs sign maximum minimum where sqrt tanh pow
zeros_like ones_like full_like`, numbers given as options or named in a module, on which it may branch, and helpers that
are functions of a module; no lambda, no closure, no look at a dtype. The tests hold every formula to that.

Numbers that depend on the dtype are options too, which a loss computes: those of the loss come first, then these.

Forms are chosen for what differentiates and compiles them. Absolute values that have a kink are a maximum of two: the
libraries agree on the derivative of that at a tie, the mean of both sides, but not on that of `abs`. In losses, which
are summed, limits are one-sided and little is selected, since XLA on the CPU makes slow loops of sums of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any
#: A namespace of the array API, or what a machine has in its place.
Namespace = Any


class Formula(NamedTuple):
    """Losses and slopes, each a function of (xp, arrays, *numbers).

    The arrays are those that its shape is given:

    - entries: x, t, the score and the target. Slopes are derivatives with respect to x.
    - classes: see `OfClasses`.
    - regions: p, t, a probability and its truth. Both functions return tuples, of what an entry adds to each sum and of
      the derivatives of that with respect to p. Where both are 0 it adds nothing.

    At a kink a slope is the mean of both sides. Autodiff may go through the losses too, so that neither may make NaN or
    infinity where the other branch of a selection is taken.
    """

    losses: Callable[..., Any]
    slopes: Callable[..., Any]
    #: Losses and slopes of an entry in one go, where to compute one is most of computing the other.
    both: Callable[..., tuple[Any, Any]] | None = None


class OfClasses(NamedTuple):
    """A loss of positions that adds up what a formula gives each class.

    The formula is given `d` and `share`, what belongs to the class, and the numbers. `d` is the score less what all
    scores are normalised by, and `share` the derivative of that. Slopes are derivatives with respect to `d`.

    A formula begins the name of an array that it does not read with `_`: a machine may leave that out.

    - "target": d is log p and share p. What belongs to the class is its share of the target, which is given as an
      array, or by labels, smoothed; and the value of a field, if there is one.
    - "teacher": the same, of scores times `scale`. What belongs to the class is log q and q, of the other scores.
    - "gap": d is the gap to the score of the label, share is 1 for the label and else 0. Nothing else belongs to it.

    Where a share in an array, or q, is 0, the formula is given 0 for the logarithms: of such a class nothing counts
    that is infinite.
    """

    formula: Formula
    numbers: tuple[float, ...] = ()
    kind: str = "target"
    scale: float = 1.0
    smoothing: float = 0.0


#: Words whose value is the same everywhere, as numbers: for machines whose operations take these beside arrays.
NUMBERS: dict[str, Callable[..., float]] = {
    "zeros_like": lambda x: 0.0,
    "ones_like": lambda x: 1.0,
    "full_like": lambda x, value: value,
}
#: A score whose exponential is 0 in every dtype: that of what is left out. An infinite one stops JAX's `debug_infs`.
NEVER = -1e4


# The words that several formulas share --------------------------------------------------------------------------------


def above(xp: Namespace, x: Array) -> Array:
    """Return max(x, 0)."""
    return xp.maximum(x, xp.zeros_like(x))


def step(xp: Namespace, x: Array) -> Array:
    """Return the slope of max(x, 0): 1/2 at 0. No selection, which costs several times as much."""
    return 0.5 + 0.5 * xp.sign(x)


def limited(xp: Namespace, x: Array, bound: float) -> Array:
    """Return x limited to [-bound, bound]."""
    top = xp.full_like(x, bound)
    return xp.minimum(xp.maximum(x, -top), top)


# Formulas that a machine has a shorter way for ------------------------------------------------------------------------


def _binary(xp: Namespace, x: Array, t: Array) -> Array:
    # softplus(x) - t x, where nothing cancels if the score is large and right, and 0 times infinity counts nothing.
    zero = xp.zeros_like(x)
    rest = 1.0 - t
    up, down = xp.where(rest > 0.0, xp.maximum(x, zero), zero), xp.where(t > 0.0, xp.minimum(x, zero), zero)
    return xp.log1p(xp.exp(-xp.abs(x))) + (rest * up - t * down)


def _binary_slopes(xp: Namespace, x: Array, t: Array) -> Array:
    small = xp.exp(-xp.abs(x))
    other = small / (1.0 + small)
    return xp.where(x > 0.0, (1.0 - t) - other, other - t)


def _absolute(xp: Namespace, x: Array, t: Array) -> Array:
    d = x - t
    return xp.maximum(d, -d)


def _absolute_slopes(xp: Namespace, x: Array, t: Array) -> Array:
    return xp.sign(x - t)


def _squared(xp: Namespace, x: Array, t: Array) -> Array:
    d = x - t
    return d * d


def _squared_slopes(xp: Namespace, x: Array, t: Array) -> Array:
    return 2.0 * (x - t)


def _huber(xp: Namespace, x: Array, t: Array, delta: float) -> Array:
    d = x - t
    # A square, not an absolute value, near 0: so the second derivative is right at 0 too.
    return 0.5 * xp.minimum(d * d, xp.full_like(d, delta * delta)) + delta * above(xp, xp.abs(d) - delta)


def _huber_slopes(xp: Namespace, x: Array, t: Array, delta: float) -> Array:
    return limited(xp, x - t, delta)


def _smooth(xp: Namespace, x: Array, t: Array, beta: float) -> Array:
    d = x - t
    # What is cut off may overflow, but not what it is a product of: that comes back times 0.
    if beta < 1.0:
        squares = xp.minimum(d * d, xp.full_like(d, beta * beta)) * (1.0 / beta)
    else:
        squares = xp.minimum(d * (d / beta), xp.full_like(d, beta))
    return 0.5 * squares + above(xp, xp.abs(d) - beta)


def _smooth_slopes(xp: Namespace, x: Array, t: Array, beta: float) -> Array:
    return limited(xp, x - t, beta) / beta


def _cross(xp: Namespace, log_p: Array, p: Array, t: Array) -> Array:
    return -(t * log_p)


def _cross_slopes(xp: Namespace, log_p: Array, p: Array, t: Array) -> Array:
    return -t


def _areas(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array, Array]:
    return p * t, p, t


def _area_slopes(xp: Namespace, p: Array, t: Array) -> tuple[Array, Array, Array]:
    return t, xp.ones_like(p), xp.zeros_like(p)


#: Entries: the binary cross entropy softplus(x) - t x of a score and a share t
BINARY = Formula(_binary, _binary_slopes)
#: Entries: |x - t|
ABSOLUTE = Formula(_absolute, _absolute_slopes)
#: Entries: (x - t)^2
SQUARED = Formula(_squared, _squared_slopes)
#: Entries: (x - t)^2 / 2 where |x - t| is at most delta > 0, else delta (|x - t| - delta / 2)
HUBER = Formula(_huber, _huber_slopes)
#: Entries: the same divided by delta, which is called beta; its square is to be a normal number.
SMOOTH = Formula(_smooth, _smooth_slopes)
#: Classes: the cross entropy of a target that gives each its share
CROSS = Formula(_cross, _cross_slopes)
#: Regions: the overlap of prediction and truth, the predicted and the true area
AREAS = Formula(_areas, _area_slopes)

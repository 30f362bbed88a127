"""Losses entry by entry that several functions share, or that a library has a faster form of.

Forms are chosen for what differentiates and compiles them. Absolute values that have a kink are a maximum of two: the
libraries agree on the derivative of that at a tie, the mean of both sides, but not on that of `abs`. In losses, which
are summed, limits are one-sided and nothing is selected, since XLA on the CPU makes slow loops of sums of either.
"""

from __future__ import annotations

from arrayloss._machines.generic import Array, Formula, Namespace, sign

#: Beyond it log cosh d is |d| - log 2, and within it e^|d| does not overflow.
FAR = 40.0


def above(xp: Namespace, x: Array) -> Array:
    """Return max(x, 0)."""
    return xp.maximum(x, xp.zeros_like(x))


def limited(xp: Namespace, x: Array, bound: float) -> Array:
    """Return x limited to [-bound, bound]."""
    top = xp.full_like(x, bound)
    return xp.minimum(xp.maximum(x, -top), top)


def _absolute(xp: Namespace, x: Array, t: Array) -> Array:
    d = x - t
    return xp.maximum(d, -d)


def _huber(xp: Namespace, x: Array, t: Array, delta: float) -> Array:
    d = x - t
    # A square, not an absolute value, near 0: so the second derivative is right at 0 too.
    return 0.5 * xp.minimum(d * d, xp.full_like(d, delta * delta)) + delta * above(xp, xp.abs(d) - delta)


def _smooth(xp: Namespace, x: Array, t: Array, beta: float) -> Array:
    d = x - t
    # What is cut off may overflow, but not what it is a product of: that comes back times 0.
    if beta < 1.0:
        squares = xp.minimum(d * d, xp.full_like(d, beta * beta)) * (1.0 / beta)
    else:
        squares = xp.minimum(d * (d / beta), xp.full_like(d, beta))
    return 0.5 * squares + above(xp, xp.abs(d) - beta)


def _log_cosh(xp: Namespace, x: Array, t: Array) -> Array:
    d = x - t
    far = xp.full_like(d, FAR)
    # cosh d - 1, to full relative accuracy. That it is smooth at 0 is what a form in |d| would lack.
    over = -0.5 * xp.expm1(xp.minimum(d, far)) * xp.expm1(xp.minimum(-d, far))
    return xp.log1p(over) + above(xp, xp.abs(d) - FAR)


#: |x - t|
ABSOLUTE = Formula(_absolute, lambda xp, x, t: sign(xp, x - t))
#: (x - t)^2
SQUARED = Formula(lambda xp, x, t: (x - t) * (x - t), lambda xp, x, t: 2.0 * (x - t))
#: (x - t)^2 / 2 where |x - t| is at most delta > 0, else delta (|x - t| - delta / 2)
HUBER = Formula(_huber, lambda xp, x, t, delta: limited(xp, x - t, delta))
#: The same divided by delta, which is called beta; its square is to be a normal number.
SMOOTH = Formula(_smooth, lambda xp, x, t, beta: limited(xp, x - t, beta) / beta)
#: log cosh(x - t)
LOG_COSH = Formula(_log_cosh, lambda xp, x, t: xp.tanh(x - t))

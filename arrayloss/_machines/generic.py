"""Every kernel in plain array API functions: complete, for any library, and the meaning of the faster ones.

`valid` is a boolean mask of positions, or None where all are valid. At a position that is not valid a kernel returns 0
and has gradient 0, whatever stands there, NaN included: inputs are cleaned before the formula, not its result after.

Libraries without automatic differentiation get it from the rules: `f_rule` returns what `f` returns, and a function
from the gradient with respect to that to the gradient with respect to the first array of `f`.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from arrayloss._machines.namespace import Library, device_of, library_name

Array = Any
#: A namespace's module, or the tape's stand-in for one.
Namespace = Any
Rule = tuple[Array, Callable[[Array], Array]]
Weights = Callable[..., Array]


class Formula(NamedTuple):
    """A loss entry by entry: functions of (namespace, scores, targets or None, *numbers), all of a module's own.

    `divergence` gives it other arguments instead, and `gap_losses` the gaps of the scores for the scores.

    Autodiff may go through the losses too, so that neither may make NaN or infinity where the other branch of a
    selection is taken.
    """

    losses: Callable[..., Array]
    #: The derivative of each loss with respect to its score; at a kink the mean of both sides.
    slopes: Callable[..., Array]
    #: Losses and slopes in one go, where to compute one is most of computing the other.
    both: Callable[..., tuple[Array, Array]] | None = None


#: The weights by which DualTaskLoss smooths: two running means of five, one after the other.
TRIANGLE = tuple(n / 25.0 for n in (1, 2, 3, 4, 5, 4, 3, 2, 1))
#: A score whose exponential is 0 in every dtype: that of what is left out. An infinite one stops JAX's `debug_infs`.
NEVER = -1e4
#: What RMILoss adds to the diagonals of its sums of squares.
RIDGE = 5e-4
#: Whether the environment asks for the portable forms, and for torch's and XLA's own sort.
PORTABLE = os.environ.get("ARRAYLOSS_PORTABLE", "0") not in ("", "0")
#: What a library tells about its arrays, which has no portable form.
_FACTS = ("as_array", "constant", "gumbel", "host_range", "label_dtype", "on_host", "scalar_like")

#: How the tape takes a kernel that has no `_rule`: on plain arrays, its result being a constant to differentiation ...
CONSTANTS = frozenset(
    {
        "any_of",
        "components",
        "constant",
        "count",
        "gumbel",
        "host_range",
        "kth_largest",
        "kth_largest_below",
        "label_counts",
        "label_dtype",
        "lovasz_weights",
        "on_host",
        "one_hot",
        "running_sum",
        "scalar_like",
        "top_class",
        "take_rows",
    }
)
#: ... or in the portable form, which runs on variables.
SHIMS = frozenset({"matmul", "sign", "sum_positions", "take_class", "triangle", "where_or", "where_valid"})


def library(x: Array) -> Library:
    """Return the library of an array whose package has no kernels of its own."""
    import array_api_compat

    return Library(str(library_name(x)), array_api_compat.array_namespace(x), sys.modules[__name__])


def extended(name: str, namespace: Namespace, faster: dict[str, Any]) -> Library:
    """Return a library whose kernels are those given, by name, and the portable ones where none is.

    torch and JAX keep their differentiable kernels in any case: their autodiff has conventions of its own.
    """
    if PORTABLE and name not in ("torch", "jax"):
        faster = {fact: faster[fact] for fact in _FACTS if fact in faster}
    return Library(name, namespace, SimpleNamespace(**{**globals(), **faster}))


# What a library can tell about its arrays ---------------------------------------------------------------------------


def constant(x: Array) -> Array:
    """Return `x` as a constant to differentiation."""
    return x


def host_range(x: Array) -> tuple[float, float] | None:
    """Return the least and the largest value where reading them costs no synchronisation and no trace, else None."""
    return None


def on_host(x: Array) -> Any:
    """Return the values of `x` as a NumPy array, waiting for them where need be.

    Where there are none to read, as in tracing, a TypeError says why.
    """
    import numpy as np

    try:
        return np.asarray(x)
    except (BufferError, RuntimeError, ValueError) as error:
        # The array may be where NumPy does not look; one of the devices of its library is the host.
        if (found := _moved_to_host(x)) is not None:
            return found
        raise TypeError(f"its library has no values for the host ({error})") from error


def _moved_to_host(x: Array) -> Any:
    """Return the values of an array as NumPy has them on another device of its library; None where it has none."""
    import numpy as np

    try:
        devices = x.__array_namespace__().__array_namespace_info__().devices()
    except (AttributeError, TypeError):
        return None
    for device in devices:
        try:
            return np.asarray(x.to_device(device))
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
            continue
    return None


def label_dtype(xp: Namespace, dtype: str) -> Any:
    """Return a signed dtype that serves as an index and holds every label of the named dtype."""
    return xp.int64 if dtype in ("uint32", "int64", "uint64") else xp.int32


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    """Return standard Gumbel samples of the shape and dtype and on the device of `like`."""
    return scalar_like(xp, like, _numpy_gumbel(like.shape, rng))


def _numpy_gumbel(shape: tuple[int, ...], rng: Any) -> Any:
    import numpy as np

    if rng is None:
        rng = np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a numpy.random.Generator")
    return rng.gumbel(size=shape)


def as_array(x: Array) -> Array:
    """Return a result as an array (NumPy turns 0-d results into scalars)."""
    return x


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of (namespace, array, kernel) as one operation, where a library compiles each in it alone."""
    return function


# Small shims --------------------------------------------------------------------------------------------------------


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    """Return a number, or nested tuples of numbers, as an array of the dtype and on the device of `x`."""
    return xp.asarray(value, dtype=x.dtype, device=device_of(x))


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    """Return `x` where `mask`, else the number `value`; `x` itself where `mask` is None."""
    return x if mask is None else xp.where(mask, x, scalar_like(xp, x, value))


def where_valid(xp: Namespace, valid: Array | None, x: Array) -> Array:
    """Return `x` of shape `(N, C, *S)` with 0 at the positions that are not valid."""
    return x if valid is None else where_or(xp, xp.expand_dims(valid, axis=1), x, 0.0)


def sign(xp: Namespace, x: Array) -> Array:
    """Return the sign of x, 0 at 0, a constant: the libraries' own differ in their derivatives and transforms."""
    return xp.astype(x > 0.0, x.dtype) - xp.astype(x < 0.0, x.dtype)


def one_hot(xp: Namespace, labels: Array, classes: int) -> Array:
    """Return the boolean one-hot form `(N, C, *S)` of labels `(N, *S)`."""
    index = xp.arange(classes, dtype=labels.dtype, device=device_of(labels))
    return xp.expand_dims(labels, axis=1) == xp.reshape(index, (1, classes) + (1,) * (labels.ndim - 1))


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    """Return `per_class[label]` at every position."""
    return xp.reshape(xp.take(per_class, xp.reshape(labels, (-1,)), axis=0), labels.shape)


def sum_positions(xp: Namespace, x: Array) -> Array:
    """Return the sum over all axes behind the batch and the classes (torch takes no axes for all axes)."""
    return x if x.ndim == 2 else xp.sum(x, axis=tuple(range(2, x.ndim)))


def triangle(xp: Namespace, x: Array, axis: int) -> Array:
    """Return the means of neighbours along an axis, weighted by TRIANGLE, where all of them are there."""
    length = x.shape[axis] - len(TRIANGLE) + 1
    total = None
    for i, weight in enumerate(TRIANGLE):
        part = x[tuple(slice(i, i + length) if j == axis else slice(None) for j in range(x.ndim))] * weight
        total = part if total is None else total + part
    return total


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the product of matrices, with all the digits of their dtype."""
    return xp.matmul(a, b)


# Differentiable building blocks -------------------------------------------------------------------------------------


def _exponentials(xp: Namespace, z: Array) -> tuple[Array, Array, Array]:
    """Return z - max(z), its exponential and the sum of that over the classes.

    The shifted scores are kept apart from log(sum): added to the maximum first, large scores would lose the digits
    that tell losses apart.
    """
    shifted = z - xp.max(z, axis=1, keepdims=True)
    e = xp.exp(shifted)
    return shifted, e, xp.sum(e, axis=1, keepdims=True)


def label_nll_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    shifted, e, total = _exponentials(xp, where_valid(xp, valid, z))
    at_label = xp.take_along_axis(shifted, xp.expand_dims(labels, axis=1), axis=1)

    def vjp(g: Array) -> Array:
        g = xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1)
        return g * (e / total - xp.astype(one_hot(xp, labels, z.shape[1]), z.dtype))

    return where_or(xp, valid, xp.squeeze(xp.log(total) - at_label, axis=1), 0.0), vjp


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    """Return -log softmax(z) at the label of each position, shape `(N, *S)`."""
    return label_nll_rule(xp, z, labels, valid)[0]


def log_softmax_rule(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    shifted, e, total = _exponentials(xp, where_valid(xp, valid, z))

    def vjp(g: Array) -> Array:
        g = where_valid(xp, valid, g)
        return g - e / total * xp.sum(g, axis=1, keepdims=True)

    return where_valid(xp, valid, shifted - xp.log(total)), vjp


def log_softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    """Return log softmax(z) over the classes."""
    return log_softmax_rule(xp, z, valid)[0]


def softmax_rule(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    _, e, total = _exponentials(xp, where_valid(xp, valid, z))
    p = where_valid(xp, valid, e / total)
    return p, lambda g: p * (g - xp.sum(g * p, axis=1, keepdims=True))


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    """Return softmax(z) over the classes."""
    return softmax_rule(xp, z, valid)[0]


def softmax_at_rule(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Rule:
    p, back = softmax_rule(xp, z, valid)

    def vjp(g: Array) -> Array:
        total = xp.zeros_like(p)
        for i in range(classes.shape[1]):
            total = total + xp.astype(one_hot(xp, classes[:, i, ...], z.shape[1]), p.dtype) * g[:, i : i + 1, ...]
        return back(total)

    return xp.take_along_axis(p, classes, axis=1), vjp


def softmax_at(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Array:
    """Return softmax(z) at classes `(N, K, *S)`, not many."""
    return softmax_at_rule(xp, z, classes, valid)[0]


def members_nll_rule(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Rule:
    z = where_valid(xp, valid, z)
    if valid is not None:
        members = members | ~xp.expand_dims(valid, axis=1)
    top = xp.max(z, axis=1, keepdims=True)
    # The members are shifted by a maximum of their own, since their probabilities may all underflow, and by that of the
    # scores: beside large ones, shifted scores have lost the digits that tell members apart.
    own = where_or(xp, members, z, -math.inf)
    top_own = xp.max(own, axis=1, keepdims=True)
    # Where all members are -inf the loss is infinite, and they share in no gradient.
    some = ~(top_own == -math.inf)
    e, e_own = xp.exp(z - top), xp.exp(own - where_or(xp, some, top_own, 0.0))
    total, total_own = (xp.sum(x, axis=1, keepdims=True) for x in (e, e_own))
    total_own = where_or(xp, some, total_own, 1.0)

    def vjp(g: Array) -> Array:
        return xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1) * (e / total - e_own / total_own)

    losses = xp.log(total) - xp.log(total_own) + (top - top_own)
    return where_or(xp, valid, xp.squeeze(losses, axis=1), 0.0), vjp


def members_nll(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Array:
    """Return -log of the summed softmax(z) of the member classes (at least one) of each position, shape `(N, *S)`."""
    return members_nll_rule(xp, z, members, valid)[0]


def softplus_rule(xp: Namespace, x: Array) -> Rule:
    zero = xp.zeros_like(x)
    small = xp.exp(-xp.abs(x))
    return xp.maximum(x, zero) + xp.log1p(small), lambda g: g * (xp.exp(xp.minimum(x, zero)) / (1.0 + small))


def softplus(xp: Namespace, x: Array) -> Array:
    """Return log(1 + exp(x)), with gradient sigmoid(x) everywhere, infinities included."""
    return softplus_rule(xp, x)[0]


def sigmoid_rule(xp: Namespace, x: Array) -> Rule:
    small = xp.exp(-xp.abs(x))
    whole = 1.0 + small
    slope = small / (whole * whole)
    return xp.exp(xp.minimum(x, xp.zeros_like(x))) / whole, lambda g: g * slope


def sigmoid(xp: Namespace, x: Array) -> Array:
    """Return 1 / (1 + exp(-x))."""
    return sigmoid_rule(xp, x)[0]


def _binary_entries(xp: Namespace, x: Array, y: Array) -> tuple[Array, Array]:
    """Return softplus(x) - y x in a form in which 0 times infinity counts nothing, and its slope sigmoid(x) - y.

    Neither cancels where the score is large and right.
    """
    zero = xp.zeros_like(x)
    small = xp.exp(-xp.abs(x))
    above, below, rest = xp.maximum(x, zero), xp.minimum(x, zero), 1.0 - y
    losses = xp.log1p(small) + rest * where_or(xp, y < 1.0, above, 0.0) - y * where_or(xp, y > 0.0, below, 0.0)
    other = small / (1.0 + small)
    return losses, xp.where(x > 0.0, rest - other, other - y)


def binary_total_rule(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Rule:
    losses, slopes = _binary_entries(xp, where_or(xp, valid, x, 0.0), y)
    return xp.sum(where_or(xp, valid, losses, 0.0)), lambda g: where_or(xp, valid, slopes * g, 0.0)


def binary_total(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Array:
    """Return the sum of softplus(x) - y x, the binary cross entropy of targets y, over all entries, 0-d.

    `valid` is a mask of entries, of the shape of x; y is 0 where not valid.
    """
    return binary_total_rule(xp, x, y, valid)[0]


def entry_losses_rule(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    x = where_or(xp, valid, x, 0.0)
    losses = where_or(xp, valid, formula.losses(xp, x, t, *options), 0.0)
    return losses, lambda g: where_or(xp, valid, formula.slopes(xp, x, t, *options) * g, 0.0)


def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    """Return the losses that a formula gives the entries of x, by the entries of t, both of one shape.

    `valid` is a mask of entries; t is finite where not valid. `options` are numbers that the formula takes.
    """
    return entry_losses_rule(xp, x, t, valid, formula, *options)[0]


def entry_total_rule(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    losses, vjp = entry_losses_rule(xp, x, t, valid, formula, *options)
    return xp.sum(losses), vjp


def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    """Return the sum of `entry_losses`, 0-d."""
    return entry_total_rule(xp, x, t, valid, formula, *options)[0]


def _log_probabilities(xp: Namespace, z: Array, scale: float) -> tuple[Array, Array]:
    """Return log softmax(scale z) and softmax(scale z)."""
    # The difference first: large scores would lose digits in the product.
    shifted = z - xp.max(z, axis=1, keepdims=True)
    if scale != 1.0:
        shifted = shifted * scale
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    # Of the logarithm as it was rounded: see the formulas of divergences.
    return log_p, xp.exp(log_p)


def _ruled_in(xp: Namespace, log_p: Array, log_q: Array, q: Array) -> tuple[Array, Array]:
    """Return both logarithms, 0 where q is: nothing infinite is multiplied by 0, or subtracted from its like."""
    some = q > 0.0
    return where_or(xp, some, log_p, 0.0), where_or(xp, some, log_q, 0.0)


def _weighed(xp: Namespace, weight: Array | None, x: Array) -> Array:
    """Return `x` times the weights of its classes, where a weight of 0 takes out even an infinite `x`."""
    if weight is None:
        return x
    weight = xp.reshape(weight, (1, -1) + (1,) * (x.ndim - 2))
    return where_or(xp, weight != 0.0, x, 0.0) * weight


def divergence_rule(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Rule:
    log_p, p = _log_probabilities(xp, where_valid(xp, valid, z), scale)
    log_q, q = _log_probabilities(xp, where_valid(xp, valid, t), scale)
    given = (xp, *_ruled_in(xp, log_p, log_q, q), p, q)
    losses = xp.sum(_weighed(xp, weight, formula.losses(*given)), axis=1)

    def vjp(g: Array) -> Array:
        slopes = _weighed(xp, weight, formula.slopes(*given))
        g = xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1) * scale
        return (slopes - p * xp.sum(slopes, axis=1, keepdims=True)) * g

    return where_or(xp, valid, losses, 0.0), vjp


def divergence(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Array:
    """Return how far softmax(scale z) is from softmax(scale t) at each position, shape `(N, *S)`.

    That is the sum over the classes, by their weights `(C,)` if there are any, of the losses of a formula, a function
    of (xp, log p, log q, p, q), p of z and q of t. Its slopes are the derivatives with respect to log p, of which p is
    a function. Where q is 0 a formula is given 0 for both logarithms. Where a loss is infinite log p is -inf.
    """
    return divergence_rule(xp, z, t, valid, weight, scale, formula)[0]


def gap_losses_rule(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    z = where_valid(xp, valid, z)
    own = one_hot(xp, labels, z.shape[1])
    gaps = where_or(xp, ~own, z - xp.take_along_axis(z, xp.expand_dims(labels, axis=1), axis=1), 0.0)
    losses = xp.sum(where_or(xp, ~own, formula.losses(xp, gaps, None, *options), 0.0), axis=1)

    def vjp(g: Array) -> Array:
        slopes = where_or(xp, ~own, formula.slopes(xp, gaps, None, *options), 0.0)
        slopes = xp.where(own, -xp.sum(slopes, axis=1, keepdims=True), slopes)
        return slopes * xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1)

    return where_or(xp, valid, losses, 0.0), vjp


def gap_losses(xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float) -> Array:
    """Return the losses that a formula gives the gaps z_c - z_y, y the label, of all other classes c, added up.

    The result has the shape of the positions; `options` are numbers that the formula takes.
    """
    return gap_losses_rule(xp, z, labels, valid, formula, *options)[0]


def _one_hot_target(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> tuple[Array, Array | None]:
    y = xp.astype(one_hot(xp, labels, x.shape[1]), x.dtype)
    return y, None if valid is None else xp.broadcast_to(xp.expand_dims(valid, axis=1), x.shape)


def binary_label_total_rule(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Rule:
    return binary_total_rule(xp, x, *_one_hot_target(xp, x, labels, valid))


def binary_label_total(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Array:
    """Return `binary_total` of the one-hot form of labels."""
    return binary_total(xp, x, *_one_hot_target(xp, x, labels, valid))


def softmax_mean_rule(xp: Namespace, z: Array, values: Array, valid: Array | None) -> Rule:
    p, _ = softmax_rule(xp, z, valid)
    values = where_valid(xp, valid, values)
    mean = xp.sum(p * values, axis=1)
    return mean, lambda g: p * (values - xp.expand_dims(mean, axis=1)) * xp.expand_dims(g, axis=1)


def softmax_mean(xp: Namespace, z: Array, values: Array, valid: Array | None) -> Array:
    """Return the sum over the classes of softmax(z)_c values_c at each position, shape `(N, *S)`.

    `values`, of the shape of z, are constants.
    """
    return softmax_mean_rule(xp, z, values, valid)[0]


def softmax_squares_rule(xp: Namespace, z: Array, labels: Array, values: Array, valid: Array | None) -> Rule:
    p, back = softmax_rule(xp, z, valid)
    error = p - xp.astype(one_hot(xp, labels, z.shape[1]), p.dtype)
    weighed = error * where_valid(xp, valid, values)
    return xp.sum(error * weighed, axis=1), lambda g: back(weighed * xp.expand_dims(2.0 * g, axis=1))


def softmax_squares(xp: Namespace, z: Array, labels: Array, values: Array, valid: Array | None) -> Array:
    """Return the sum over the classes of values_c (softmax(z)_c - [c = label])^2 at each position, shape `(N, *S)`.

    `values`, of the shape of z, are constants.
    """
    return softmax_squares_rule(xp, z, labels, values, valid)[0]


def softmax_sums_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    p, back = softmax_rule(xp, z, valid)
    hit = one_hot(xp, labels, z.shape[1])

    def vjp(g: Array) -> Array:
        at_label, everywhere = (xp.reshape(a, a.shape + (1,) * (z.ndim - 2)) for a in (g[0, ...], g[1, ...]))
        return back(where_or(xp, hit, xp.broadcast_to(at_label, p.shape), 0.0) + everywhere)

    return xp.stack([sum_positions(xp, where_or(xp, hit, p, 0.0)), sum_positions(xp, p)], axis=0), vjp


def softmax_sums(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    """Return the sums of p_c = softmax(z)_c over the positions with label c and over all, shape `(2, N, C)`."""
    return softmax_sums_rule(xp, z, labels, valid)[0]


def unexplained_rule(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Rule:
    value, (towards_predicted, _) = _window_rules(xp, *_all_windows(xp, predicted, true, valid, radius))
    return value, lambda g: _folded(xp, towards_predicted(g), predicted, radius)


def unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    """Return the log determinant of the covariance that the best linear prediction leaves, shape `(N, C)`.

    It is that of the vectors of the `radius` x `radius` cells of each window of `true` (N, C, H, W), predicted from
    those of `predicted`. A window counts where all its cells are `valid` (N, 1, H, W); where none does the value is 0.
    Prediction and determinant are those of ridge regression: RIDGE over the number of windows is added to both
    diagonals.
    """
    windows = _all_windows(xp, predicted, true, valid, radius)
    squares = _regression(xp, *windows)[-1]
    return _log_determinant(xp, _eliminated(xp, squares)[0], *windows[1:])


def _window_rules(
    xp: Namespace, predicted: Array, true: Array, weights: Array | None
) -> tuple[Array, tuple[Callable[[Array], Array], Callable[[Array], Array]]]:
    """Return `unexplained` of windows `(N, C, size, count)`, and the functions to the gradients of both.

    `weights` (N, 1, 1, count) is 1 for the windows that count and 0 for the others.
    """
    basis, slopes, left, squares = _regression(xp, predicted, true, weights)
    one = xp.broadcast_to(xp.eye(true.shape[2], dtype=true.dtype, device=device_of(true)), squares.shape)
    pivots, inverse = _eliminated(xp, xp.concat([squares, one], axis=3))

    # The slopes are the best ones: where they change a little, the determinant does not. Where no window counts there
    # is nothing left, and no gradient.
    def towards(side: Array, g: Array) -> Array:
        change = xp.matmul(xp.matrix_transpose(basis), xp.matmul(side, inverse))
        return xp.matmul(change * (2.0 * xp.reshape(g, (*g.shape, 1, 1))), left)

    return _log_determinant(xp, pivots, true, weights), (
        lambda g: towards(xp.matrix_transpose(slopes), g),
        lambda g: towards(-one, g),
    )


def _log_determinant(xp: Namespace, pivots: Array, true: Array, weights: Array | None) -> Array:
    """Return the log determinant of a covariance from the pivots of its sums of squares."""
    size, count = true.shape[2:]
    logs = xp.sum(xp.log(pivots), axis=(2, 3))
    if weights is None:
        return logs - size * math.log(count)
    total = xp.sum(weights, axis=(2, 3))
    some = total > 0.0
    return where_or(xp, some, logs - xp.log(where_or(xp, some, total, 1.0)) * float(size), 0.0)


def _all_windows(
    xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int
) -> tuple[Array, Array, Array | None]:
    weights = None
    if valid is not None:
        weights = xp.min(_windows(xp, xp.astype(valid, true.dtype), radius), axis=2, keepdims=True)
    return _windows(xp, predicted, radius), _windows(xp, true, radius), weights


def _windows(xp: Namespace, x: Array, radius: int) -> Array:
    """Return the cells of each window of `(N, C, H, W)`, shape `(N, C, radius^2, windows)`."""
    rows, columns = x.shape[2] - radius + 1, x.shape[3] - radius + 1
    cells = [x[:, :, i : i + rows, j : j + columns] for i in range(radius) for j in range(radius)]
    return xp.reshape(xp.stack(cells, axis=2), (*x.shape[:2], radius**2, rows * columns))


def _folded(xp: Namespace, windows: Array, like: Array, radius: int) -> Array:
    """Return the sums of what each cell has in all its windows: the transpose of `_windows`."""
    rows, columns = like.shape[2] - radius + 1, like.shape[3] - radius + 1
    windows = xp.reshape(windows, (*like.shape[:2], radius**2, rows, columns))
    total = xp.zeros_like(like)
    for k in range(radius**2):
        i, j = divmod(k, radius)
        total[:, :, i : i + rows, j : j + columns] += windows[:, :, k, :, :]
    return total


def _regression(
    xp: Namespace, predicted: Array, true: Array, weights: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Return the basis, the slopes in it, what they leave of the true vectors, and the sums of squares of that."""
    size = true.shape[2]
    basis = xp.broadcast_to(scalar_like(xp, true, _cosines(math.isqrt(size))), (*true.shape[:2], size, size))
    p, y = (_centred(xp, xp.matmul(basis, x), weights) for x in (predicted, true))
    ridge = xp.reshape(xp.eye(size, dtype=true.dtype, device=device_of(true)), (1, 1, size, size)) * RIDGE
    squares, products = (xp.matmul(p, xp.matrix_transpose(x)) for x in (p, y))
    slopes = xp.matrix_transpose(_eliminated(xp, xp.concat([squares + ridge, products], axis=3))[1])
    left = xp.matmul(slopes, p) - y
    # Equal to the sums of squares of y less what is explained, without the difference of the two.
    squares = xp.matmul(left, xp.matrix_transpose(left)) + xp.matmul(slopes, xp.matrix_transpose(slopes)) * RIDGE
    return basis, slopes, left, squares + ridge


def _cosines(side: int) -> tuple[tuple[float, ...], ...]:
    """Return the orthonormal basis of two-dimensional cosines of a square window, a row each.

    Neighbours are all but equal. In this basis their small differences stand by themselves, where rounding is as small
    as they are, and no determinant changes.
    """
    waves = [
        [math.sqrt((1 + (f > 0)) / side) * math.cos(math.pi * f * (2 * i + 1) / (2 * side)) for i in range(side)]
        for f in range(side)
    ]
    return tuple(tuple(a * b for a in down for b in across) for down in waves for across in waves)


def _centred(xp: Namespace, x: Array, weights: Array | None) -> Array:
    """Return vectors less their mean, 0 for those that do not count."""
    if weights is None:
        return x - xp.mean(x, axis=3, keepdims=True)
    count = xp.sum(weights, axis=3, keepdims=True)
    return (x - xp.sum(x * weights, axis=3, keepdims=True) / xp.maximum(count, xp.ones_like(count))) * weights


def _eliminated(xp: Namespace, rows: Array) -> tuple[Array, Array]:
    """Return the pivots of Gauss-Jordan elimination of as many columns as there are rows, and the columns behind them.

    The first columns are a positive definite matrix with the ridge, whose pivots are never less than that: what is less
    is rounding.
    """
    size = rows.shape[2]
    index = xp.reshape(xp.arange(size, device=device_of(rows)), (1, 1, size, 1))
    pivots = []
    for i in range(size):
        pivot = rows[:, :, i : i + 1, :1]
        pivot = xp.maximum(pivot, xp.full_like(pivot, RIDGE))
        row = rows[:, :, i : i + 1, 1:] / pivot
        rows = xp.where(index == i, row, rows[:, :, :, 1:] - rows[:, :, :, :1] * row)
        pivots.append(pivot)
    return xp.concat(pivots, axis=3), rows


def lovasz_softmax_rule(
    xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Rule:
    positive = _valid_one_hot(xp, labels, valid, p.shape[1])
    errors = xp.where(positive, 1.0 - p, p)
    losses, w = _extension(xp, errors, positive, valid, per_image, weights or lovasz_weights)
    slopes = xp.where(positive, -w, w)
    return losses, lambda g: slopes * xp.reshape(g, g.shape + (1,) * (p.ndim - 2))


def lovasz_softmax(
    xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Array:
    """Return the Lovasz extension of the Jaccard loss at the errors |[y = c] - p_c|, shape `(sets, C)`.

    A set is an image with `per_image`, else the batch. p is 0 where not valid; a label of C belongs to no class.
    `weights` is the `lovasz_weights` of the library.
    """
    return lovasz_softmax_rule(xp, p, labels, valid, per_image, weights)[0]


def lovasz_hinge_rule(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Rule:
    positive = _valid_one_hot(xp, labels - 1, valid, z.shape[1])
    errors = 1.0 - where_valid(xp, valid, z) * (xp.astype(positive, z.dtype) * 2.0 - 1.0)
    errors = where_valid(xp, valid, where_or(xp, ~(errors <= 0.0), errors, 0.0))
    losses, w = _extension(xp, errors, positive, valid, per_image, weights or lovasz_weights)
    slopes = where_or(xp, errors > 0.0, xp.where(positive, -w, w), 0.0)
    return losses, lambda g: slopes * xp.reshape(g, g.shape + (1,) * (z.ndim - 2))


def lovasz_hinge(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool, weights: Weights | None = None
) -> Array:
    """Return the Lovasz extension of the Jaccard loss at the errors max(0, 1 - z (2 y - 1)), shape `(sets, 1)`."""
    return lovasz_hinge_rule(xp, z, labels, valid, per_image, weights)[0]


def take_positions_rule(xp: Namespace, x: Array, places: Array) -> Rule:
    images, classes, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    there = xp.expand_dims(places < images * positions, axis=1)
    at = xp.where(places < images * positions, places, xp.zeros_like(places))
    plane = xp.arange(classes, dtype=places.dtype, device=device_of(places)) * positions
    index = xp.expand_dims(at // positions * (classes * positions) + at % positions, axis=1) + plane
    rows = xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(index, (-1,)), axis=0), index.shape)

    def vjp(g: Array) -> Array:
        slots, filled = _slots(xp, places, images * positions)
        back = where_or(xp, xp.expand_dims(filled, axis=1), xp.take(g, slots, axis=0), 0.0)
        return xp.reshape(xp.permute_dims(xp.reshape(back, (images, positions, classes)), (0, 2, 1)), x.shape)

    return where_or(xp, there, rows, 0.0), vjp


def take_positions(xp: Namespace, x: Array, places: Array) -> Array:
    """Return the vectors over the classes at K places, shape `(K, C)`.

    A place is an index of the flat positions `(N * S)`, of which none comes twice; N * S itself stands for none, and
    gives 0. There is at least one position.
    """
    return take_positions_rule(xp, x, places)[0]


def put_positions_rule(xp: Namespace, values: Array, places: Array, shape: tuple[int, ...]) -> Rule:
    positions = math.prod(shape)
    slots, filled = _slots(xp, places, positions)
    there = places < positions
    at = xp.where(there, places, xp.zeros_like(places))

    def vjp(g: Array) -> Array:
        return where_or(xp, there, xp.take(xp.reshape(g, (-1,)), at, axis=0), 0.0)

    return xp.reshape(where_or(xp, filled, xp.take(values, slots, axis=0), 0.0), shape), vjp


def put_positions(xp: Namespace, values: Array, places: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of a shape that holds K values at their places (see `take_positions`), and 0 elsewhere."""
    return put_positions_rule(xp, values, places, shape)[0]


def _slots(xp: Namespace, places: Array, positions: int) -> tuple[Array, Array]:
    """Return for each position which of the places it is, and whether it is one: what a scatter would know."""
    order = xp.argsort(places)
    ranked = xp.take(places, order, axis=0)
    position = xp.arange(positions, dtype=places.dtype, device=device_of(places))
    found = xp.searchsorted(ranked, position)
    found = xp.minimum(found, xp.full_like(found, places.shape[0] - 1))
    return xp.take(order, found, axis=0), xp.take(ranked, found, axis=0) == position


def _valid_one_hot(xp: Namespace, labels: Array, valid: Array | None, classes: int) -> Array:
    hit = one_hot(xp, labels, classes)
    return hit if valid is None else hit & xp.expand_dims(valid, axis=1)


def _extension(
    xp: Namespace,
    errors: Array,
    positive: Array,
    valid: Array | None,
    per_image: bool,
    weights: Weights,
) -> tuple[Array, Array]:
    """Return the Lovasz extension of each set and class at errors `(N, C, *S)`, and the weights in their layout."""
    images, classes = errors.shape[:2]
    sets, pixels = (images if per_image else 1), math.prod(errors.shape[2:]) * (1 if per_image else images)
    swapped = (0, 1) if per_image else (1, 0)
    order = (*swapped, *range(2, errors.ndim))

    def rows(x: Array) -> Array:
        return xp.reshape(xp.permute_dims(x, order), (sets * classes, pixels))

    e = rows(errors)
    if pixels == 0:
        return xp.reshape(xp.sum(e, axis=1), (sets, classes)), xp.zeros_like(errors)
    if valid is not None:
        valid = rows(xp.broadcast_to(xp.expand_dims(valid, axis=1), errors.shape))
    w = weights(xp, e, rows(positive), valid)
    losses = xp.reshape(xp.sum(e * w, axis=1), (sets, classes))
    shape = tuple(errors.shape[i] for i in order)
    return losses, xp.permute_dims(xp.reshape(w, shape), order)


#: Entries and, at most, half the bins that `bin_totals` holds against each other at once.
_BIN_BLOCK = 1 << 13


def bin_totals_rule(xp: Namespace, x: Array, bins: Array, size: int) -> Rule:
    # A bin is a row and a column, each in its one-hot form: together they are as long as twice the root of the bins.
    columns = math.isqrt(max(size - 1, 0)) + 1
    rows = -(-size // columns)
    row, column = (xp.expand_dims(i, axis=2) for i in (bins // columns, bins % columns))
    row_index, column_index = (xp.arange(n, dtype=bins.dtype, device=device_of(bins)) for n in (rows, columns))
    totals = xp.zeros((x.shape[0], rows, columns), dtype=x.dtype, device=device_of(x))
    for start in range(0, x.shape[1], _BIN_BLOCK):
        at = slice(start, min(start + _BIN_BLOCK, x.shape[1]))
        spread = where_or(xp, row[:, at, :] == row_index, xp.expand_dims(x, axis=2)[:, at, :], 0.0)
        hit = xp.astype(column[:, at, :] == column_index, x.dtype)
        totals = totals + xp.matmul(xp.matrix_transpose(spread), hit)
    flat = xp.reshape(totals, (x.shape[0], rows * columns))[:, :size]
    return flat, lambda g: xp.take_along_axis(g, bins, axis=1)


def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Array:
    """Return the sums `(N, size)` of the entries of `x` (N, E) that have each number, from 0 on, in `bins` (N, E)."""
    return bin_totals_rule(xp, x, bins, size)[0]


# Constants: selections, counts and orders, never differentiated -----------------------------------------------------


def count(xp: Namespace, mask: Array) -> Array:
    """Return how many entries of a mask are True, 0-d."""
    return xp.count_nonzero(mask)


def any_of(xp: Namespace, mask: Array) -> Array:
    """Return whether any entry of a mask is True, 0-d."""
    return xp.any(mask)


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    """Return how many valid positions of each image have each label, shape `(N, C)`."""
    return sum_positions(xp, xp.astype(_valid_one_hot(xp, labels, valid, classes), dtype))


def top_class(xp: Namespace, z: Array) -> Array:
    """Return the class with the largest score, the first of equal ones, shape `(N, *S)`."""
    return xp.argmax(z, axis=1)


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    """Return the rank of the connected component of each position among those of its label in its image, by size.

    Positions of equal label that share a side or a corner are connected (8 neighbours in an image, 26 in a volume), in
    any number of steps. The largest component has rank 0, of equal ones the one whose first position comes first.
    `most` stands for all ranks from there on, and where the label is negative: such positions connect nothing.
    """
    if math.prod(labels.shape) == 0:
        return xp.full_like(labels, most)
    positions = math.prod(labels.shape[1:])
    index = xp.arange(labels.shape[0] * positions, dtype=xp.int64, device=device_of(labels))
    root, label = _roots(xp, labels, index, positions), xp.astype(xp.reshape(labels, (-1,)), xp.int64)
    ordered = xp.sort(root)
    sizes = xp.searchsorted(ordered, index, side="right") - xp.searchsorted(ordered, index)
    # Roots alone are ranked: by image and label, then by falling size, then by place.
    group = xp.where(
        (root == index) & (label >= 0),
        index // positions * classes + label,
        xp.full_like(index, labels.shape[0] * classes),
    )
    keys = group * (positions + 1) + (positions - xp.astype(sizes, index.dtype))
    order = xp.argsort(keys)
    ordered = xp.take(keys, order)
    begins = xp.searchsorted(ordered, ordered // (positions + 1) * (positions + 1))
    ranks = xp.take(index - xp.astype(begins, index.dtype), xp.argsort(order))
    beyond = xp.full_like(index, most)
    ranks = xp.where(label >= 0, xp.minimum(xp.take(ranks, root), beyond), beyond)
    return xp.reshape(xp.astype(ranks, labels.dtype), labels.shape)


def _roots(xp: Namespace, labels: Array, index: Array, positions: int) -> Array:
    """Return the first position of the component of each position, as an index into the flat batch.

    Positions found to be connected so far are a set, named by the first of them. In a round every set joins the first
    of its neighbours that comes before it. Of two rounds each leaves no set alone that can grow: one that comes before
    all of its neighbours, and that none of them joins in the first round, sees each of them join an earlier one, and
    so joins that itself in the second. Two rounds therefore halve the number of sets in a component at least, whatever
    its shape, and their number is known without reading anything.
    """
    touching = _neighbours(xp, labels)
    root, size = index, index.shape[0]
    left = positions
    while left > 1:
        for _ in range(2):
            near = xp.reshape(_least_neighbour(xp, xp.reshape(root, labels.shape), touching), (-1,))
            # The least of each set: the first of its keys, in order.
            keys = xp.sort(root * size + near)
            begins = xp.minimum(xp.searchsorted(keys, index * size), xp.full_like(index, size - 1))
            parent = xp.where(root == index, xp.take(keys, begins) % size, root)
            for _ in range(left.bit_length()):
                parent = xp.take(parent, parent)
            root = parent
        left //= 2
    return root


def _neighbours(xp: Namespace, labels: Array) -> list[tuple[tuple[int, ...], Array]]:
    """Return each step to a neighbour, as `roll` takes it, and where it leads to one of the same label."""
    space = labels.shape[1:]
    found = []
    for step in itertools.product((-1, 0, 1), repeat=len(space)):
        if not any(step):
            continue
        touch = (labels >= 0) & (xp.roll(labels, step, axis=tuple(range(1, labels.ndim))) == labels)
        for axis, (shift, length) in enumerate(zip(step, space, strict=True)):
            place = xp.arange(length, dtype=labels.dtype, device=device_of(labels))
            inside = (place >= shift) & (place < length + shift)
            touch = touch & xp.reshape(inside, tuple(length if i == axis + 1 else 1 for i in range(labels.ndim)))
        found.append((step, touch))
    return found


def _least_neighbour(xp: Namespace, x: Array, touching: list[tuple[tuple[int, ...], Array]]) -> Array:
    """Return the least of the entries of each position and of its neighbours of the same label."""
    least = x
    for step, touch in touching:
        rolled = xp.roll(x, step, axis=tuple(range(1, x.ndim)))
        least = xp.where(touch, xp.minimum(least, rolled), least)
    return least


def take_rows(xp: Namespace, rows: Array, index: Array) -> Array:
    """Return the entries of rows `(N, M)` at the indices `(N, P)` of each."""
    return xp.take_along_axis(rows, index, axis=1)


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    """Return the k-th largest value of each row (1 <= k <= length), a NaN being larger than any number."""
    return xp.sort(rows, axis=-1, descending=True)[:, k - 1]


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    """Return the k-th largest value of a row `(1, P)`, or any value above where k values exceed the bound."""
    return kth_largest(xp, row, k)


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    """Return the gradient of the Lovasz extension of the Jaccard loss with respect to the errors, row by row.

    `errors` (R, P) are at least 0, `positive` marks the set whose Jaccard loss it is. Entries that are not valid weigh
    nothing.

    Among tied errors the weights depend on which are ranked first. Taken here is the mean of two orders, positives
    first and negatives first, which treats equal entries alike and is close to what the order of exact numbers gives.
    With g positives in all, and k1 positives and b1 negatives ranked before a group of tied errors, k2 and b2 up to its
    end, a positive weighs (1 / (g + b1) + 1 / (g + b2)) / 2 and a negative (2 g - k1 - k2) / ((g + b1) (g + b2)) / 2:
    counts are integers, and nothing cancels. Without positives the largest error weighs 1.
    """
    keys = errors if valid is None else where_or(xp, valid, errors, -1.0)
    order = xp.argsort(keys, axis=-1, descending=True)
    ranked = xp.take_along_axis(keys, order, axis=-1)
    hit = xp.astype(xp.take_along_axis(positive, order, axis=-1), xp.int32)
    back = xp.argsort(order, axis=-1)
    return xp.take_along_axis(ranked_lovasz_weights(xp, ranked, hit, running_sum, _running_max), back, axis=-1)


def ranked_lovasz_weights(
    xp: Namespace, ranked: Array, hit: Array, running_sum: Callable[..., Array], running_max: Callable[..., Array]
) -> Array:
    """Return `lovasz_weights` of rows in falling order, `hit` being 1 at positives and invalid ones below 0."""
    one = xp.ones_like(hit)
    fresh = ranked[:, 1:] != ranked[:, :-1]
    edge = xp.ones_like(ranked[:, :1], dtype=xp.bool)
    first, last = xp.concat([edge, fresh], axis=-1), xp.concat([fresh, edge], axis=-1)
    hits, all_ = running_sum(xp, hit), running_sum(xp, one)
    positives = hits[:, -1:]
    zero = xp.zeros_like(hit)
    # What was ranked before a group stands at its first entry, what is left after it at its last: both only grow
    # along the row (or against it), so that a running maximum spreads them over the group.
    k1 = running_max(xp, xp.where(first, hits - hit, zero))
    n1 = running_max(xp, xp.where(first, all_ - one, zero))
    total = xp.full_like(positives, ranked.shape[1])
    k2 = positives - xp.flip(running_max(xp, xp.flip(xp.where(last, positives - hits, zero), axis=-1)), axis=-1)
    n2 = total - xp.flip(running_max(xp, xp.flip(xp.where(last, total - all_, zero), axis=-1)), axis=-1)
    tied = xp.astype(n2 - n1, ranked.dtype)
    left, before, after = (
        xp.astype(a, ranked.dtype) for a in (2 * positives - k1 - k2, positives + n1 - k1, positives + n2 - k2)
    )
    # With no positives at all `before` is 0 in the first group alone, which then weighs 1.
    some = before > 0.0
    before = where_or(xp, some, before, 1.0)
    weight = 0.5 * xp.where(hit > 0, 1.0 / before + 1.0 / after, left / (before * after))
    return where_or(xp, ranked >= 0.0, xp.where(some, weight, 1.0 / tied), 0.0)


def running_sum(xp: Namespace, x: Array) -> Array:
    """Return the running sum of whole numbers along the last axis, in their dtype."""
    return xp.cumulative_sum(x, axis=-1, dtype=x.dtype)


def _running_max(xp: Namespace, x: Array) -> Array:
    """Return the running maximum along rows of non-negative numbers, by doubling: no namespace has one."""
    step = 1
    while step < x.shape[-1]:
        x = xp.maximum(x, xp.concat([xp.zeros_like(x[:, :step]), x[:, :-step]], axis=-1))
        step *= 2
    return x

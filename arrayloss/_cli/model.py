"""The classifier of the demo, with its part of the chain rule written out, in the functions of the array API.

Every function takes the arrays of any library and returns its arrays. A loss hands back its gradient with respect to
the logits (`arrayloss.value_and_grad`); `backward` carries that on to the weights.
"""

from __future__ import annotations

from typing import Any

Array = Any
#: Into the hidden units (H, F) and their offsets (H, 1), out of them to the classes (C, H) and (C, 1).
Weights = tuple[Array, Array, Array, Array]

_REACH = 6
#: A pixel is judged by the 9 x 9 pixels around it and, up to 13 x 13, by every second one.
_OFFSETS = tuple(
    (down, right)
    for down in range(-_REACH, _REACH + 1)
    for right in range(-_REACH, _REACH + 1)
    if max(abs(down), abs(right)) <= 4 or (down % 2 == 0 and right % 2 == 0)
)


def initial_weights(hidden: int, classes: int, seed: int = 1) -> Weights:
    """Return random weights as NumPy arrays in float32."""
    import numpy as np

    random = np.random.default_rng(seed)
    features = len(_OFFSETS)
    into = random.normal(scale=(2.0 / features) ** 0.5, size=(hidden, features))
    out = random.normal(scale=(1.0 / hidden) ** 0.5, size=(classes, hidden))
    single = np.float32
    return into.astype(single), np.zeros((hidden, 1), single), out.astype(single), np.zeros((classes, 1), single)


def neighbourhoods(pictures: Array) -> Array:
    """Return what surrounds each pixel: `(N, H, W)` becomes `(N, F, H * W)`."""
    from array_api_compat import array_namespace

    xp = array_namespace(pictures)
    images, height, width = pictures.shape
    above = xp.zeros_like(pictures[:, :_REACH, :])
    padded = xp.concat([above, pictures, above], axis=1)
    beside = xp.zeros_like(padded[:, :, :_REACH])
    padded = xp.concat([beside, padded, beside], axis=2)
    shifted = [
        padded[:, _REACH + down : _REACH + down + height, _REACH + right : _REACH + right + width]
        for down, right in _OFFSETS
    ]
    return xp.reshape(xp.stack(shifted, axis=1), (images, len(_OFFSETS), height * width))


def forward(weights: Weights, x: Array) -> tuple[Array, Array]:
    """Return the logits `(N, C, P)` of P pixels, and the hidden units `(N, H, P)` that `backward` needs."""
    from array_api_compat import array_namespace

    xp = array_namespace(x)
    into, offset, out, base = weights
    hidden = into @ x + offset
    hidden = xp.where(hidden > 0, hidden, xp.zeros_like(hidden))
    return out @ hidden + base, hidden


def backward(weights: Weights, x: Array, hidden: Array, slope: Array) -> Weights:
    """Return the gradient of the weights from that of the logits, `slope` (N, C, P)."""
    from array_api_compat import array_namespace

    xp = array_namespace(x)
    behind = weights[2].T @ slope
    behind = xp.where(hidden > 0, behind, xp.zeros_like(behind))
    return (
        xp.sum(behind @ xp.matrix_transpose(x), axis=0),
        xp.expand_dims(xp.sum(behind, axis=(0, 2)), axis=1),
        xp.sum(slope @ xp.matrix_transpose(hidden), axis=0),
        xp.expand_dims(xp.sum(slope, axis=(0, 2)), axis=1),
    )


def adam(weight: Array, gradient: Array, moments: tuple[Array, Array], step: int, rate: float) -> tuple[Array, Any]:
    """Return a weight and its moments after step number `step`, the first being 1 (Kingma and Ba, 2015)."""
    first = 0.9 * moments[0] + 0.1 * gradient
    second = 0.99 * moments[1] + 0.01 * gradient**2
    direction = first / (1.0 - 0.9**step) / ((second / (1.0 - 0.99**step)) ** 0.5 + 1e-8)
    return weight - rate * direction, (first, second)

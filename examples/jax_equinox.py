"""Training in JAX with Equinox and Optax: the step jitted, the loss among its options as plain data.

Run it with `python jax_equinox.py`. It needs JAX, Equinox, Optax and scikit-learn.
"""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import optax
from _digits import CLASSES, digit_pixels, mean_iou

import arrayloss as al

Batch = tuple[jax.Array, jax.Array]


def make_model(key: jax.Array) -> eqx.nn.Sequential:
    first, second, third = jax.random.split(key, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 24, 5, padding=2, key=first),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Conv2d(24, 24, 5, padding=2, key=second),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Conv2d(24, CLASSES, 5, padding=2, key=third),
        ]
    )


@eqx.filter_jit
def step(model, state, optimizer, criterion, batch: Batch):
    """Return the model and the optimizer's state after one batch, and the loss before it.

    The criterion is hashable plain data, so that jit takes it as a static argument: one compilation for each.
    """
    pictures, labels = batch
    loss, grads = eqx.filter_value_and_grad(lambda m: criterion(jax.vmap(m)(pictures), labels))(model)
    updates, state = optimizer.update(grads, state)
    return eqx.apply_updates(model, updates), state, loss


def train(criterion: al.Loss, epochs: int = 8) -> float:
    """Return the mean IoU on held-out digits after training with a loss."""
    (pictures, labels), (held_out, truth) = digit_pixels()
    model = make_model(jax.random.key(0))
    optimizer = optax.adam(4e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_array))
    order = np.random.default_rng(0)
    for epoch in range(epochs):
        losses = []
        for batch in order.permutation(len(pictures)).reshape(-1, 50):
            model, state, loss = step(model, state, optimizer, criterion, (pictures[batch], labels[batch]))
            losses.append(loss)
        print(f"  epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    scores = jax.vmap(model)(held_out)
    return mean_iou(np.asarray(scores).argmax(axis=1), truth)


criteria = {
    "cross entropy + Dice": al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss(smooth=1.0)], [1.0, 1.0]),
    "hard pixels": al.OhemCrossEntropyLoss(thresh=0.9, min_kept=500),
}
for name, criterion in criteria.items():
    print(name)
    iou = train(criterion)
    print(f"  mean IoU on held-out digits: {iou:.3f}")
    if iou < 0.5:
        raise SystemExit("the model has not learnt the digits")

"""A loss of arrayloss in Keras 3, on its JAX and on its torch backend.

Run it with `KERAS_BACKEND=jax python keras_loss.py` or `KERAS_BACKEND=torch python keras_loss.py`. It needs Keras,
scikit-learn, and JAX or torch.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from _digits import CLASSES, digit_pixels, mean_iou

import arrayloss as al

CRITERION = al.MixedLoss([al.CrossEntropyLoss(axis=-1), al.DiceLoss(smooth=1.0, axis=-1)], [1.0, 1.0])


def segmentation_loss(labels, logits):
    """Put the arguments in the order of arrayloss, and the labels back to integers: Keras makes them floats."""
    return CRITERION(logits, keras.ops.cast(labels, "int32"))


keras.utils.set_random_seed(0)
(pictures, labels), (held_out, truth) = digit_pixels()
pictures, held_out = np.moveaxis(pictures, 1, -1), np.moveaxis(held_out, 1, -1)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(24, 5, padding="same", activation="relu"),
        keras.layers.Conv2D(24, 5, padding="same", activation="relu"),
        keras.layers.Conv2D(CLASSES, 5, padding="same"),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(4e-3), loss=segmentation_loss)
# As one batch, because a mean of batches is no mean of pixels where some are ignored.
before = model.evaluate(held_out, truth, batch_size=len(truth), verbose=0)
directly = CRITERION(model.predict(held_out, verbose=0), truth)
print(f"Keras {keras.__version__} on {keras.backend.backend()}")
print(f"untrained: loss {before:.6f} by Keras, {directly:.6f} by NumPy from the scores")

model.fit(pictures, labels, batch_size=50, epochs=8, verbose=2)
iou = mean_iou(model.predict(held_out, verbose=0).argmax(axis=-1), truth)
print(f"mean IoU on held-out digits: {iou:.3f}")

if abs(before - directly) > 1e-5:
    raise SystemExit("Keras does not report the loss")
if iou < 0.5:
    raise SystemExit("the model has not learnt the digits")

"""The loss as a hyperparameter: a scikit-learn grid search over the loss of a torch model, by skorch.

skorch calls what it gets as `criterion` to make the loss: a loss class, or `functools.partial` with the options. Its
`criterion__smooth=1.0` is for torch modules, which losses of arrayloss are not.

Run it with `python torch_skorch.py`. It needs torch, skorch and scikit-learn.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from _digits import CLASSES, digit_pixels, mean_iou
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet
from torch import nn

import arrayloss as al


def make_model() -> nn.Module:
    torch.manual_seed(0)  # the losses compete from the same weights
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(24, 24, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(24, CLASSES, 5, padding=2),
    )


def score(net: NeuralNet, pictures: np.ndarray, labels: np.ndarray) -> float:
    return mean_iou(net.predict(pictures).argmax(axis=1), labels)


(pictures, labels), (held_out, truth) = digit_pixels()
net = NeuralNet(
    make_model,
    criterion=al.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=4e-3,
    max_epochs=6,
    batch_size=50,
    train_split=None,
    verbose=0,
)
losses = {
    "cross entropy": al.CrossEntropyLoss,
    "Lovasz-softmax": al.LovaszSoftmaxLoss,
    "cross entropy + Dice": partial(al.MixedLoss, [al.CrossEntropyLoss(), al.DiceLoss(smooth=1.0)], [1.0, 1.0]),
}
search = GridSearchCV(net, {"criterion": list(losses.values())}, scoring=score, cv=2, error_score="raise")
search.fit(pictures, labels)

found = dict(zip(losses, search.cv_results_["mean_test_score"], strict=True))
for name, iou in found.items():
    print(f"{name:22} mean IoU {iou:.3f} in cross-validation")
iou = score(search.best_estimator_, held_out, truth)
print(f"best: {max(found, key=found.get)}, mean IoU {iou:.3f} on held-out digits")
if len(set(found.values())) < len(found):
    raise SystemExit("two losses give the same model")
if iou < 0.5:
    raise SystemExit("the model has not learnt the digits")

"""A loss as a scikit-learn scorer: cross-validation and grid search by a loss of arrayloss, on NumPy alone.

Run it with `python sklearn_scorer.py`. It needs scikit-learn.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

import arrayloss as al


def scorer_of(loss: al.Loss):
    """Return a scorer of classifiers whose decision function gives logits; the smaller the loss, the better."""

    def score(labels: np.ndarray, logits: np.ndarray) -> float:
        return float(loss(logits, labels))

    return make_scorer(score, response_method="decision_function", greater_is_better=False)


images, digits = load_digits(return_X_y=True)
images = images / 16
model = LogisticRegression(max_iter=1000)

ours = cross_val_score(model, images, digits, scoring=scorer_of(al.CrossEntropyLoss()))
theirs = cross_val_score(model, images, digits, scoring="neg_log_loss")
print("cross entropy of the folds:", ", ".join(f"{-score:.4f}" for score in ours))
print(f"largest difference from scikit-learn's log loss: {np.abs(ours - theirs).max():.1e}")
if np.abs(ours - theirs).max() > 1e-12:
    raise SystemExit("the scorer is not scikit-learn's log loss")

# Several at once: which regularisation suits which loss, and which suits them where an 8 counts ten times.
scorers = {
    "CrossEntropyLoss": scorer_of(al.CrossEntropyLoss()),
    "CrossEntropyLoss, 8 weighs 10": scorer_of(
        al.CrossEntropyLoss(weight=[10.0 if n == 8 else 1.0 for n in range(10)])
    ),
    "LovaszSoftmaxLoss": scorer_of(al.LovaszSoftmaxLoss()),
}
strengths = [0.1, 1.0, 10.0]
search = GridSearchCV(model, {"C": strengths}, scoring=scorers, refit="CrossEntropyLoss", cv=3).fit(images, digits)
print(f"\n{'mean loss of the folds':30}" + "".join(f"{f'C={strength}':>10}" for strength in strengths))
for name in scorers:
    print(f"{name:30}" + "".join(f"{-score:10.4f}" for score in search.cv_results_[f"mean_test_{name}"]))
print(f"best by cross entropy: C={search.best_params_['C']}")

if any(np.ptp(search.cv_results_[f"mean_test_{name}"]) == 0 for name in scorers):
    raise SystemExit("a scorer does not tell models apart")

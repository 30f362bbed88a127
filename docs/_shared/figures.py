"""The figures on the page of each loss: curves where they say more than words, and gradients on a photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import arrayloss as al
from _shared import maps, plots
from _shared.plots import plt
from _shared.scenes import motorcycle
from arrayloss._cli.catalog import brief

#: Steps of training after which gradients are shown.
EARLY, LATE = 20, 300
FOCUS = 3  # the motorcycle
#: Where a curve runs.
MARGIN = np.linspace(-6.0, 6.0, 241)
ERROR = np.linspace(-3.0, 3.0, 241)
WHERE_CURVES: dict[str, str] = {
    "CrossEntropyLoss": "Two classes; the margin is the logit of the true class less that of the other.",
    "BCELoss": "One entry.",
    "OhemCrossEntropyLoss": "One batch of 241 pixels of two classes, whose margins are spread over the axis; the "
    "margin is the logit of the true class less that of the other.",
    "DiceLoss": "An image of two classes, every pixel of which has the margin on the axis (the logit of its true class "
    "less that of the other); the share is that of class 1. The derivative is with respect to that margin.",
    "LovaszSoftmaxLoss": "One image of two classes, with the margins of the pixels of each class spread over the axis; "
    "the share is that of class 1. The gradient is with respect to the margin (the logit of the true class less that "
    "of the other), times the number of pixels.",
    "LovaszHingeLoss": "One image, with the margins of foreground and background each spread over the axis; the share "
    "is that of the foreground. The gradient is with respect to the margin (the score, or its negative on the "
    "background), times the number of pixels.",
    "RelaxBoundaryLoss": "One pixel of class 0 among three classes, with logits (2, z, 0): inside its region, and "
    "beside a pixel of class 1.",
    "L1Loss": "One entry.",
}
WHERE_CURVES["BootstrappedCrossEntropyLoss"] = WHERE_CURVES["OhemCrossEntropyLoss"]
WHERE_CURVES["MSELoss"] = WHERE_CURVES["L1Loss"]

Curve = tuple[np.ndarray, np.ndarray]


def along(loss: Callable, x: np.ndarray, logits_of: Callable, target: np.ndarray) -> Curve:
    """Return the entries of a loss over x, and their derivatives, where `logits_of(x)` has an entry for each x."""
    return al.value_and_grad(lambda x, target: loss(logits_of(x), target))(x, target)


def two_classes(margin, axis: int = -1):
    """Return logits of which class 1 leads class 0 by a margin, of any array."""
    xp = margin.__array_namespace__()
    return xp.stack([margin * 0.0, margin], axis=axis)


def curves(name: str) -> tuple[dict[str, Curve], np.ndarray, str]:
    """Return value and derivative by name, what they are drawn over, and its name."""
    ones = np.ones(MARGIN.shape, dtype=int)
    match name:
        case "CrossEntropyLoss":
            losses = {
                f"label_smoothing={s:g}": al.CrossEntropyLoss(label_smoothing=s, reduction="none")
                for s in (0, 0.1, 0.3)
            }
        case "OhemCrossEntropyLoss":
            losses = {
                "thresh=0.7, min_kept=1": al.OhemCrossEntropyLoss(0.7, 1, reduction="none"),
                "thresh=0.3, min_kept=60": al.OhemCrossEntropyLoss(0.3, 60, reduction="none"),
            }
        case "BootstrappedCrossEntropyLoss":
            # One image of all the pixels.
            losses = {
                f"min_K={k}, loss_th={t:g}": _as_image(al.BootstrappedCrossEntropyLoss(k, t, reduction="none"))
                for k, t in ((20, 0.5), (60, 5.0))
            }
        case "BCELoss":
            return _bce(), MARGIN, "logit"
        case "RelaxBoundaryLoss":
            return _beside_a_boundary(), MARGIN, "z, the logit of class 1"
        case "L1Loss" | "MSELoss":
            loss = getattr(al, name)(reduction="none")
            return {name: along(loss, ERROR, lambda x: x, np.zeros_like(ERROR))}, ERROR, "prediction - target"
        case _:
            return {f"share {s:.0%}": _dice(s) for s in (0.5, 0.1, 0.01)}, MARGIN, "margin of every pixel"
    return {k: along(f, MARGIN, two_classes, ones) for k, f in losses.items()}, MARGIN, "margin"


def _bce() -> dict[str, Curve]:
    loss, heavy = al.BCELoss(reduction="none"), al.BCELoss(pos_weight=2.0, reduction="none")
    kinds = {"target 1": (loss, 1.0), "target 0": (loss, 0.0), "target 0.7": (loss, 0.7)}
    kinds["target 1, pos_weight=2"] = (heavy, 1.0)
    return {k: along(f, MARGIN, lambda x: x[:, None], np.full((241, 1), t)) for k, (f, t) in kinds.items()}


def _as_image(loss: al.Loss) -> Callable:
    """Return a loss of pixels `(P, C)` that takes them as one image."""
    return lambda logits, target: loss(logits.T[None], target[None])[0]


def _beside_a_boundary() -> dict[str, Curve]:
    loss = al.RelaxBoundaryLoss(reduction="none")

    def logits_of(z):
        xp = z.__array_namespace__()
        classes = xp.stack([z * 0.0 + 2.0, z, z * 0.0], axis=1)
        # Images of one row: the pixel, and a neighbour that only lends its class.
        return xp.stack([classes, classes * 0.0], axis=2)[:, :, None, :]

    def first_pixel(logits, target):
        return loss(logits, target)[:, 0, 0]

    kinds = {"inside the region": 0, "at the boundary": 1}
    targets = {name: np.broadcast_to([0, beside], (241, 1, 2)) for name, beside in kinds.items()}
    return {name: along(first_pixel, MARGIN, logits_of, target) for name, target in targets.items()}


def _dice(share: float, pixels: int = 1000) -> Curve:
    """Return Dice over the margin that every pixel of an image has, one image for each margin."""
    target = np.broadcast_to(np.arange(pixels) < share * pixels, (241, pixels)).astype(int)
    sign = np.where(target == 1, 1.0, -1.0)

    def logits_of(margin):
        return two_classes(margin[:, None] * sign, axis=1)

    def each_image(logits, target):
        loss = al.DiceLoss(reduction="none")(logits, target)
        return (loss[:, 0] + loss[:, 1]) / 2.0

    return along(each_image, MARGIN, logits_of, target)


def _lovasz(name: str, share: float, pixels: int = 2000) -> Mapping[str, Curve]:
    """Return the gradient of each pixel over its margin, times their number, by class."""
    ones = round(share * pixels)
    margin = np.concatenate([np.linspace(-6.0, 6.0, n) for n in (ones, pixels - ones)])
    target = (np.arange(pixels) < ones).astype(int)[None]
    score = np.where(target == 1, margin, -margin)
    logits = score[:, None] if name == "LovaszHingeLoss" else two_classes(score, axis=1)
    _, slope = al.value_and_grad(getattr(al, name)())(logits, target)
    by_margin = pixels * np.where(target == 1, 1.0, -1.0)[0] * slope[0, -1]
    return {"class 1": (margin[:ones], by_margin[:ones]), "class 0": (margin[ones:], by_margin[ones:])}


def draw_curves(name: str) -> Figure:
    """Draw value and gradient of a loss side by side; of the Lovasz losses, gradients for two shares of a class."""
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.2), sharey=name.startswith("Lovasz"))
    if name.startswith("Lovasz"):
        for ax, share in zip(axes, (0.5, 0.1), strict=True):
            for (label, (x, y)), dash in zip(_lovasz(name, share).items(), ("-", "--"), strict=True):
                ax.plot(x, y, dash, label=label)
            ax.set(title=f"share of class 1: {share:.0%}", xlabel="margin of the pixel")
        axes[0].set_ylabel("gradient, times pixels")
    else:
        drawn, x, over = curves(name)
        plots.lines(axes[0], x, {k: value for k, (value, _) in drawn.items()}, title="value", xlabel=over)
        plots.lines(axes[1], x, {k: slope for k, (_, slope) in drawn.items()}, title="derivative", xlabel=over)
    if len(axes[0].lines) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def write(folder: Path) -> None:
    """Write the figures of all losses into a folder."""
    with plt.rc_context(plots.STYLE):
        for name in WHERE_CURVES:
            _save(draw_curves(name), folder / f"{name}-curves.png")
        scene = motorcycle()
        logits = maps.logits_during_training(scene, (EARLY, LATE))
        for loss in maps.LOSSES:
            gradients = {
                f"gradient after {step} steps": maps.gradient_map(loss, logits[step], scene.labels[None], FOCUS)
                for step in (EARLY, LATE)
            }
            _save(plots.scene_and_gradients(scene, gradients), folder / f"{type(loss).__name__}-gradients.png")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)


def section(name: str) -> str:
    """Return the part of a loss's page that shows its figures."""
    parts = []
    if name in WHERE_CURVES:
        parts += ["## Curves", WHERE_CURVES[name], f"![Value and derivative of {name}]({name}-curves.png)"]
    for loss in maps.LOSSES:
        if type(loss).__name__ == name:
            parts += [
                "## On a photograph",
                f"The gradient of `{brief(loss)}` with respect to the logits of the class motorcycle, after {EARLY} "
                f"and {LATE} steps of training a small network with cross entropy. Descent raises the logit where it "
                "is blue, lowers it where it is red, and leaves it alone where it is white. " + HOW.get(name, ""),
                f"![Gradient of {name} on a photograph]({name}-gradients.png)",
                "[All losses side by side](../notebooks/what-each-loss-sees.md).",
            ]
    return "\n\n".join(parts) + "\n"


_PROBABILITY = (
    "The loss compares the probabilities of all classes with the one-hot target; the gradient is carried on through "
    "the softmax."
)
HOW: dict[str, str] = {
    "EdgeAttentionLoss": "The edges are those of the target, `al.label_edges(labels)`.",
    "OhemEdgeAttentionLoss": "The edges are those of the target, `al.label_edges(labels)`.",
    "DualTaskLoss": "The noise is 0.",
    "LovaszHingeLoss": "The score is the log odds of motorcycle against all other classes.",
    "L1Loss": _PROBABILITY,
    "MSELoss": _PROBABILITY,
}

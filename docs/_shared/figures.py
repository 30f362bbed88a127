"""The figures on the page of each loss: curves where they say more than words, and gradients on a photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import arrayloss as al
from _shared import maps, plots
from _shared.plots import plt
from _shared.scenes import motorcycle
from arrayloss._cli.catalog import brief

Array = Any
#: Where curves run.
MARGIN = np.linspace(-6.0, 6.0, 241)
ERROR = np.linspace(-3.0, 3.0, 241)


@dataclass(frozen=True)
class Curves:
    """What is drawn of a loss: its entries over x as functions by label, of what x is, and in which situation."""

    drawn: Mapping[str, Callable[[Array], Array]]
    x: np.ndarray
    over: str
    where: str


def sweep(loss: type[al.Loss], **options: Sequence[float]) -> dict[str, al.Loss]:
    """Return a loss with each of several values of an option."""
    ((name, values),) = options.items()
    return {f"{name}={value:g}": loss(**{name: value}, reduction="none") for value in values}


def two_classes(margin, axis: int = -1):
    """Return logits of which class 1 leads class 0 by a margin, of any array."""
    xp = margin.__array_namespace__()
    return xp.stack([margin * 0.0, margin], axis=axis)


def pixels(losses: Mapping[str, al.Loss]) -> Curves:
    """Return curves over the lead of the true class of two."""

    def drawn(loss):
        return lambda x: loss(two_classes(x), np.ones(x.shape, dtype=int))

    where = "Two classes; the margin is the logit of the true class less that of the other."
    return Curves({label: drawn(loss) for label, loss in losses.items()}, MARGIN, "margin", where)


def batch(losses: Mapping[str, al.Loss]) -> Curves:
    """Return curves over the lead of the true class of two, at the pixels of one image."""

    def drawn(loss):
        return lambda x: loss(two_classes(x, axis=0)[None], np.ones((1, *x.shape), dtype=int))[0]

    where = (
        "One image of 241 pixels of two classes, whose margins are spread over the axis; the margin is the logit of "
        "the true class less that of the other."
    )
    return Curves({label: drawn(loss) for label, loss in losses.items()}, MARGIN, "margin", where)


def entry(kinds: Mapping[str, tuple[al.Loss, float]]) -> Curves:
    """Return curves over one logit, of losses against a target each."""

    def drawn(loss, target):
        return lambda x: loss(x[:, None], np.full((x.shape[0], 1), target))

    return Curves({label: drawn(*kind) for label, kind in kinds.items()}, MARGIN, "logit", "One entry.")


def yes_and_no(loss: al.Loss, **other: tuple[al.Loss, float]) -> Curves:
    """Return curves of a loss against both targets, and of others."""
    return entry({"target 1": (loss, 1.0), "target 0": (loss, 0.0), **other})


def errors(losses: Mapping[str, al.Loss]) -> Curves:
    """Return curves over the difference of a prediction from its target."""

    def drawn(loss):
        return lambda x: loss(x, np.zeros(x.shape))

    return Curves({label: drawn(loss) for label, loss in losses.items()}, ERROR, "prediction - target", "One entry.")


def images(losses: Mapping[str, tuple[al.Loss, float]], count: int = 1000) -> Curves:
    """Return curves over the margin that all pixels of an image have, for a share of the pixels in class 1 each."""

    def drawn(loss, share):
        labels = np.broadcast_to(np.arange(count) < share * count, (len(MARGIN), count)).astype(int)

        def each(x):
            found = loss(two_classes(x[:, None] * np.where(labels == 1, 1.0, -1.0), axis=1), labels)
            return (found[:, 0] + found[:, 1]) / 2.0 if found.ndim == 2 else found  # by class, or of the image

        return each

    where = (
        "An image of two classes, every pixel of which has the margin on the axis (the logit of its true class less "
        "that of the other); the share is that of class 1. The derivative is with respect to that margin."
    )
    return Curves({label: drawn(*kind) for label, kind in losses.items()}, MARGIN, "margin of every pixel", where)


def shares(loss: type[al.Loss]) -> Curves:
    """Return curves of a loss of regions for shares of class 1."""
    return images({f"share {share:.0%}": (loss(reduction="none"), share) for share in (0.5, 0.1, 0.01)})


def student(losses: Mapping[str, al.Loss], where: str, margin: float = 2.0) -> Curves:
    """Return curves over the lead of class 1 of two, where that of a teacher is fixed and the label is 0."""
    teacher = np.broadcast_to([0.0, margin], (len(MARGIN), 2))

    def drawn(loss):
        return lambda x: loss(two_classes(x), teacher, labels=np.zeros(x.shape, dtype=int))

    where = "Two classes; the margin is the logit of class 1 less that of class 0, and that of the teacher " + (
        f"{margin:g}. {where}"
    )
    return Curves(
        {label: drawn(loss) for label, loss in losses.items()}, MARGIN, "margin of the student", where.rstrip()
    )


def at_distances(loss: al.Loss, name: str, distances: Sequence[float]) -> Curves:
    """Return curves over the score of one background pixel that lies at a distance from the boundary."""

    def drawn(distance):
        def each(x):
            arrays = {name: np.full((x.shape[0], 1, 1), float(distance))}
            if name == "target_distance":
                arrays["prediction_distance"] = 0
            return loss(x[:, None, None], np.zeros((x.shape[0], 1), dtype=int), **arrays)[:, 0]

        return each

    where = "A single score at one pixel outside of the true region, at distances from its boundary."
    return Curves({f"distance {d:g}": drawn(d) for d in distances}, MARGIN, "score", where)


def beside_a_boundary() -> Curves:
    """Return curves of the relaxed boundary loss inside a region, and beside another."""
    loss = al.RelaxBoundaryLoss(reduction="none")

    def drawn(beside):
        def first_pixel(z):
            xp = z.__array_namespace__()
            classes = xp.stack([z * 0.0 + 2.0, z, z * 0.0], axis=1)
            # Images of one row: the pixel, and a neighbour that only lends its class.
            logits = xp.stack([classes, classes * 0.0], axis=2)[:, :, None, :]
            return loss(logits, np.broadcast_to([0, beside], (z.shape[0], 1, 2)))[:, 0, 0]

        return first_pixel

    where = (
        "One pixel of class 0 among three classes, with logits (2, z, 0): inside its region, and beside a pixel of "
        "class 1."
    )
    return Curves(
        {"inside the region": drawn(0), "at the boundary": drawn(1)}, MARGIN, "z, the logit of class 1", where
    )


def counts() -> Curves:
    """Return curves of the Poisson likelihood."""
    loss = al.PoissonNLLLoss(reduction="none")

    def drawn(count):
        return lambda x: loss(x, np.full(x.shape, count))

    where = "One entry; the prediction is the logarithm of the rate."
    return Curves({f"count {count:g}": drawn(count) for count in (0.0, 1.0, 4.0)}, ERROR, "prediction", where)


def variances() -> Curves:
    """Return curves of the normal likelihood."""
    loss = al.GaussianNLLLoss(reduction="none")

    def drawn(variance):
        return lambda x: loss((x, np.full(x.shape, variance)), np.zeros(x.shape))

    where = "One entry; the derivative is with respect to the mean."
    return Curves({f"variance {v:g}": drawn(v) for v in (0.25, 1.0, 4.0)}, ERROR, "mean - target", where)


def none(loss: type[al.Loss], *options: float) -> al.Loss:
    return loss(*options, reduction="none")


CURVES: dict[str, Curves] = {
    "CrossEntropyLoss": pixels(sweep(al.CrossEntropyLoss, label_smoothing=(0.0, 0.1, 0.3))),
    "FocalLoss": pixels(sweep(al.FocalLoss, gamma=(0.0, 0.5, 2.0, 5.0))),
    "PolyLoss": pixels(sweep(al.PolyLoss, epsilon=(-1.0, 0.0, 1.0, 3.0))),
    "GeneralizedCrossEntropyLoss": pixels(sweep(al.GeneralizedCrossEntropyLoss, q=(0.1, 0.4, 0.7, 1.0))),
    "SymmetricCrossEntropyLoss": pixels(
        {f"alpha={a:g}, beta={b:g}": none(al.SymmetricCrossEntropyLoss, a, b) for a, b in ((1, 0), (0.1, 1), (1, 1))}
    ),
    "MultiMarginLoss": pixels(
        {f"p={p}, margin={m:g}": none(al.MultiMarginLoss, p, m) for p, m in ((1, 1.0), (1, 3.0), (2, 1.0))}
    ),
    "BCELoss": yes_and_no(
        none(al.BCELoss),
        **{
            "target 0.7": (none(al.BCELoss), 0.7),
            "target 1, pos_weight=2": (al.BCELoss(pos_weight=2.0, reduction="none"), 1.0),
        },
    ),
    "SigmoidFocalLoss": yes_and_no(
        none(al.SigmoidFocalLoss),
        **{f"target {y:g}, gamma=0": (none(al.SigmoidFocalLoss, 0.0), y) for y in (1.0, 0.0)},
    ),
    "AsymmetricLoss": yes_and_no(
        none(al.AsymmetricLoss),
        **{"target 0, clip=0.3": (al.AsymmetricLoss(clip=0.3, reduction="none"), 0.0)},
    ),
    "HingeLoss": yes_and_no(none(al.HingeLoss), **{"target 0.7": (none(al.HingeLoss), 0.7)}),
    "SquaredHingeLoss": yes_and_no(none(al.SquaredHingeLoss), **{"target 0.7": (none(al.SquaredHingeLoss), 0.7)}),
    "OhemCrossEntropyLoss": batch(
        {f"thresh={t:g}, min_kept={k}": none(al.OhemCrossEntropyLoss, t, k) for t, k in ((0.7, 1), (0.3, 60))}
    ),
    "BootstrappedCrossEntropyLoss": batch(
        {f"min_K={k}, loss_th={t:g}": none(al.BootstrappedCrossEntropyLoss, k, t) for k, t in ((20, 0.5), (60, 5.0))}
    ),
    "DiceLoss": shares(al.DiceLoss),
    "GeneralizedDiceLoss": shares(al.GeneralizedDiceLoss),
    "LogCoshDiceLoss": shares(al.LogCoshDiceLoss),
    "JaccardLoss": shares(al.JaccardLoss),
    "TverskyLoss": images(
        {f"alpha={a:g}, beta={b:g}": (none(al.TverskyLoss, a, b), 0.1) for a, b in ((0.5, 0.5), (0.1, 0.9), (0.9, 0.1))}
    ),
    "RelaxBoundaryLoss": beside_a_boundary(),
    "BoundaryLoss": at_distances(al.BoundaryLoss(activation="sigmoid", reduction="none"), "distance", (1, 2, 4)),
    "HausdorffDTLoss": at_distances(
        al.HausdorffDTLoss(activation="sigmoid", reduction="none"), "target_distance", (1, 2, 4)
    ),
    "KLDivLoss": student(sweep(al.KLDivLoss, temperature=(1.0, 2.0, 4.0)), ""),
    "JSDivLoss": student(sweep(al.JSDivLoss, temperature=(1.0, 2.0, 4.0)), ""),
    "DistillCrossEntropyLoss": student(sweep(al.DistillCrossEntropyLoss, temperature=(1.0, 2.0, 4.0)), ""),
    "DistillationLoss": student(sweep(al.DistillationLoss, alpha=(0.0, 0.5, 1.0)), "The label is 0."),
    "L1Loss": errors({"": none(al.L1Loss)}),
    "MSELoss": errors({"": none(al.MSELoss)}),
    "SmoothL1Loss": errors(sweep(al.SmoothL1Loss, beta=(0.0, 1.0, 2.0))),
    "HuberLoss": errors(sweep(al.HuberLoss, delta=(0.5, 1.0, 2.0))),
    "LogCoshLoss": errors({"": none(al.LogCoshLoss)}),
    "CharbonnierLoss": errors(sweep(al.CharbonnierLoss, epsilon=(0.001, 0.3, 1.0))),
    "QuantileLoss": errors(sweep(al.QuantileLoss, quantile=(0.1, 0.5, 0.9))),
    "PoissonNLLLoss": counts(),
    "GaussianNLLLoss": variances(),
}
#: Losses of which gradients are drawn for two shares of a class, by `_lovasz`.
LOVASZ: dict[str, str] = {
    "LovaszSoftmaxLoss": "One image of two classes, with the margins of the pixels of each class spread over the axis; "
    "the share is that of class 1. The gradient is with respect to the margin (the logit of the true class less that "
    "of the other), times the number of pixels.",
    "LovaszHingeLoss": "One image, with the margins of foreground and background each spread over the axis; the share "
    "is that of the foreground. The gradient is with respect to the margin (the score, or its negative on the "
    "background), times the number of pixels.",
}
WHERE: dict[str, str] = LOVASZ | {name: curves.where for name, curves in CURVES.items()}


def _lovasz(name: str, share: float, pixels: int = 2000) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
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
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.2), sharey=name in LOVASZ)
    if name in LOVASZ:
        for ax, share in zip(axes, (0.5, 0.1), strict=True):
            for (label, (x, y)), dash in zip(_lovasz(name, share).items(), ("-", "--"), strict=True):
                ax.plot(x, y, dash, label=label)
            ax.set(title=f"share of class 1: {share:.0%}", xlabel="margin of the pixel")
        axes[0].set_ylabel("gradient, times pixels")
    else:
        curves = CURVES[name]
        found = {k: al.value_and_grad(lambda x, f: f(x))(curves.x, f) for k, f in curves.drawn.items()}
        for ax, title, which in zip(axes, ("value", "derivative"), (0, 1), strict=True):
            plots.lines(ax, curves.x, {k: v[which] for k, v in found.items()}, title=title, xlabel=curves.over)
    if len(axes[0].lines) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def write_curves(folder: Path) -> None:
    """Write the curves of all losses into a folder."""
    with plt.rc_context(plots.STYLE):
        for name in WHERE:
            _save(draw_curves(name), folder / f"{name}-curves.png")


def write_maps(folder: Path) -> None:
    """Write the gradients of all losses on a photograph into a folder."""
    with plt.rc_context(plots.STYLE):
        scene = motorcycle()
        view = maps.look(scene)
        for name in maps.BY_NAME:
            gradients = {
                f"gradient after {step} steps": maps.gradient_map(name, view, step) for step in (maps.EARLY, maps.LATE)
            }
            _save(plots.scene_and_gradients(scene, gradients), folder / f"{name}-gradients.png")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)


def section(name: str) -> str:
    """Return the part of a loss's page that shows its figures."""
    parts = []
    if name in WHERE:
        parts += ["## Curves", WHERE[name], f"![Value and derivative of {name}]({name}-curves.png)"]
    if name in maps.BY_NAME:
        loss, fed = maps.BY_NAME[name]
        parts += [
            "## On a photograph",
            f"The gradient of `{brief(loss)}` with respect to the logits of the class motorcycle, after {maps.EARLY} "
            f"and {maps.LATE} steps of training a small network with cross entropy. Descent raises the logit where it "
            f"is blue, lowers it where it is red, and leaves it alone where it is white. {fed.how}".rstrip(),
            f"![Gradient of {name} on a photograph]({name}-gradients.png)",
            "[All losses side by side](../notebooks/what-each-loss-sees.md).",
        ]
    return "\n\n".join(parts) + "\n"

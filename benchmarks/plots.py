"""Draw the results in benchmarks/results as SVG files for the documentation: `python benchmarks/plots.py`.

Colours are Okabe and Ito's, told apart with any colour vision; the background is clear and the text grey, so that
they can be read on light and on dark pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _tables
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, SKY, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
GREY = "#808080"
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": "medium",
    "axes.grid": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.color": GREY,
    "legend.framealpha": 0,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "arrayloss",  # the same file from the same results
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def panels(records: _tables.Records) -> list[tuple[str, _tables.Records]]:
    """Return the title and the records of each library, those given up left out."""
    good = [r for r in records if "error" not in r]
    return [(title, found) for library, title in _tables.TITLES.items() if (found := _of(library, good))]


def _of(library: str, records: _tables.Records) -> _tables.Records:
    return [r for r in records if r.get("library") == library]


def speed(records: _tables.Records) -> Any:
    """Draw times against the peers', a row for each, with the targets."""
    parts = panels(records)
    heights = [len(found) for _, found in parts]
    figure, axes = plt.subplots(
        len(parts), 1, sharex=True, figsize=(8, 0.21 * sum(heights) + 1.6), height_ratios=heights, squeeze=False
    )
    for ax, (title, found) in zip(axes[:, 0], parts, strict=True):
        names = [f"{r['loss']}{', value alone' if r['mode'] == 'value' else ''}: {r['peer']}" for r in found]
        for y, r in enumerate(found):
            hit = r["ratio"] <= r["target"]
            ax.plot(r["ratio"], y, marker="o" if hit else "D", color=BLUE if hit else RED, linestyle="")
            ax.plot([r["target"]], [y], marker="|", markersize=9, color=GREY, linestyle="")
        ax.axvline(1, color=GREY, linewidth=1)
        ax.set(title=title, xscale="log", ylim=(len(found) - 0.5, -0.5))
        ax.set_yticks(range(len(found)), names)
        ax.xaxis.set_major_formatter("{x:g}")
    axes[-1, 0].set_xlabel("time of arrayloss / time of the peer (less than 1: arrayloss is faster)")
    keys = (("target met", "o", BLUE), ("target not met", "D", RED), ("target", "|", GREY))
    handles = [axes[0, 0].plot([], [], marker=m, color=c, linestyle="", label=name)[0] for name, m, c in keys]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def growth(records: _tables.Records) -> Any:
    """Draw times per pixel against pixels."""
    parts = panels(records)
    figure, axes = plt.subplots(1, len(parts), sharey=True, figsize=(9, 3.8), squeeze=False)
    losses = dict.fromkeys(r["loss"] for _, found in parts for r in found)
    styles = dict(zip(losses, zip((BLUE, ORANGE, GREEN, SKY, RED, PURPLE), "osD^vX", strict=True), strict=False))
    for ax, (title, found) in zip(axes[0], parts, strict=True):
        for r in found:
            colour, marker = styles[r["loss"]]
            each = [1e9 * t / n for n, t in zip(r["pixels"], r["seconds"], strict=True)]
            ax.plot(r["pixels"], each, color=colour, marker=marker, markersize=4, label=f"{r['loss']} ({r['bound']})")
        ax.set(title=title, xlabel="pixels", yscale="log")
        ax.set_xscale("log", base=2)
        ax.set_xticks(found[0]["pixels"][::2])
    axes[0, 0].set_ylabel("time per pixel, ns")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def memory(records: _tables.Records) -> Any:
    """Draw peaks of memory beside the peers'."""
    parts = panels(records)
    figure, axes = plt.subplots(1, len(parts), figsize=(9, 2.6), squeeze=False)
    for ax, (title, found) in zip(axes[0], parts, strict=True):
        _bars(ax, found)
        ax.set(title=title)
    figure.supxlabel("peak above the inputs / size of the logits", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _bars(ax: Axes, found: _tables.Records) -> None:
    for shift, side, label, colour in ((-0.2, "ours", "arrayloss", BLUE), (0.2, "theirs", "peer", ORANGE)):
        ax.barh([y + shift for y in range(len(found))], [r[side] for r in found], 0.36, color=colour, label=label)
    for y, r in enumerate(found):
        ax.plot([r["targets"][0]] * 2, [y - 0.4, y], color=GREY, linewidth=2, label="" if y else "target")
    ax.set_yticks(range(len(found)), [f"{r['loss'].partition(',')[0]}:\n{r['peer']}" for r in found])
    ax.invert_yaxis()


def main() -> None:
    """Write a file for each kind of result."""
    with mpl.rc_context(STYLE):
        for draw in (speed, growth, memory):
            records = json.loads((HERE / "results" / f"{draw.__name__}.json").read_text())["records"]
            figure = draw(records)
            figure.set_layout_engine("constrained")
            folder = HERE.parent / "docs" / "benchmarks"
            folder.mkdir(exist_ok=True)
            figure.savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

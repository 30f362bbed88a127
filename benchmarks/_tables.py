"""Results as Markdown tables, for the terminal and for the documentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Records = list[dict[str, Any]]
TITLES = {"numpy": "NumPy", "torch": "torch, eager", "jax": "JAX, jit"}
#: How much slower and hungrier than the best peer a loss of the catalogue may be.
CATALOGUE = 1.10
FLOORS = ("read + write", "exp", "sort")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose columns are aligned, those after the first two to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * (w - (i > 1)) + ":" * (i > 1) for i, w in enumerate(widths)]

    def line(cells: list[str]) -> str:
        return (
            "| "
            + " | ".join(
                c.rjust(w) if i > 1 else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
            + " |"
        )

    return "\n".join([line(head), line(rule), *map(line, rows)])


def met(value: float, target: float | None) -> list[str]:
    """Return the cells of a target and whether it is met."""
    return ["", ""] if target is None else [f"{target:.2f}", "met" if value <= target else "not met"]


def per_library(records: Records, body: Any) -> list[str]:
    """Return a titled table of each library that has records, and lines for the rows given up."""
    parts = []
    for library, title in TITLES.items():
        found = [r for r in records if r.get("library") == library]
        good = [r for r in found if "error" not in r]
        parts += [f"**{title}**", body(good)] if good else []
        parts += [f"Given up: {r['loss']} on {title}: {r['error']}" for r in found if "error" in r]
    return parts


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def ratios(records: Records) -> str:
    """Return arrayloss against its peers."""
    head = ["loss", "peer", "arrayloss, ms", "peer, ms", "ratio", "of the least", "target", ""]
    rows = []
    for r in records:
        name = r["loss"] + (" (value alone)" if r["mode"] == "value" else "")
        times = [_ms(r[side]["median"]) for side in ("ours", "theirs")]
        rows.append([name, r["peer"], *times, f"{r['ratio']:.3f}", f"{r['least']:.3f}", *met(r["ratio"], r["target"])])
    return table(head, rows)


def floors(records: Records) -> str:
    """Return arrayloss, value and gradient, in multiples of what the bare operations cost."""
    rows = {}
    for r in records:
        if r["floors"] and r["mode"] != "value":
            cells = [f"{r['ours']['median'] / r['floors'][f]:.1f}" if f in r["floors"] else "" for f in FLOORS]
            rows[r["loss"]] = [r["loss"], _ms(r["ours"]["median"]), *cells]
    return table(["loss", "ms", *FLOORS], list(rows.values()))


def speed(records: Records) -> str:
    """Return all of speed.py's."""
    timed = [r for r in records if "import" not in r]
    parts = per_library(timed, ratios)
    good = [r for r in timed if r.get("floors")]
    if good:
        parts += ["Value and gradient in multiples of bare operations on arrays of the size of the logits:"]
        parts += per_library(good, floors)
    return "\n\n".join([*parts, *(import_time(*r["import"]) for r in records if "import" in r)])


def import_time(empty: float, loaded: float) -> str:
    """Return the sentence on `import arrayloss`."""
    above = f"{1e3 * (loaded - empty):.0f} ms above the {1e3 * empty:.0f} ms"
    return f"`import arrayloss` takes {above} of an empty interpreter."


def memory(records: Records) -> str:
    """Return peaks in units of the logits."""

    def body(rows: Records) -> str:
        head = ["loss", "peer", "arrayloss", "target", "", "peer's peak", "ratio", "target", ""]
        return table(
            head,
            [
                [
                    r["loss"],
                    r["peer"],
                    f"{r['ours']:.2f}",
                    *met(r["ours"], r["targets"][0]),
                    f"{r['theirs']:.2f}",
                    f"{r['ours'] / r['theirs']:.3f}",
                    *met(r["ours"] / r["theirs"], r["targets"][1]),
                ]
                for r in rows
            ],
        )

    return "\n\n".join(per_library(records, body))


#: Times the time of labels, and logits of memory, that soft and smoothed targets may take.
SHARES = (1.3, 1.6)


def shares(records: Records) -> str:
    """Return what soft and smoothed targets take beside labels."""

    def body(rows: Records) -> str:
        head = ["cross entropy of", "ms", "beside labels", "target", "", "memory in logits", "target", ""]
        return table(
            head,
            [
                [
                    r["target"],
                    _ms(r["time"]),
                    f"{r['ratio']:.2f}",
                    *met(r["ratio"], SHARES[0]),
                    f"{r['logits']:.2f}",
                    *met(r["logits"], SHARES[1]),
                ]
                for r in rows
            ],
        )

    return "\n\n".join(per_library(records, body))


def growth(records: Records) -> str:
    """Return times per pixel and what they grow by."""

    def body(rows: Records) -> str:
        sizes = max((r["pixels"] for r in rows), key=len)
        powers = [f"2^{n.bit_length() - 1}" for n in sizes]
        lines = []
        for r in rows:
            each = [f"{1e9 * t / n:.3g}" for n, t in zip(r["pixels"], r["seconds"], strict=True)]
            each += [""] * (len(sizes) - len(each))
            lines.append([r["loss"], r["bound"], *each, f"{r['exponent']:.2f}", *met(r["exponent"], r["target"])])
        return table(["loss", "bound", *powers, "exponent above", "at most", ""], lines)

    return "\n\n".join(["Nanoseconds per pixel, value and gradient:", *per_library(records, body)])


def catalogue(records: Records) -> str:
    """Return every loss against the best of its peers, and how many keep within the target."""
    kinds = ("time", "memory")

    def best(r: dict[str, Any], kind: str) -> tuple[str, float]:
        return min(((name, x) for name, x in r[kind].items() if name != "arrayloss"), key=lambda pair: pair[1])

    def body(rows: Records) -> str:
        head = ["loss", "fastest peer", "ms", "its ms", "ratio", "", "peak", "leanest peer's", "ratio", ""]
        lines = []
        for r in rows:
            name, time = best(r, "time")
            of_time, of_memory = (met(r[f"{kind} ratio"], CATALOGUE)[1] for kind in kinds)
            cells = [_ms(r["time"]["arrayloss"]), _ms(time), f"{r['time ratio']:.2f}", of_time]
            cells += [f"{r['memory']['arrayloss']:.2f}", f"{best(r, 'memory')[1]:.2f}", f"{r['memory ratio']:.2f}"]
            lines.append([r["loss"], name, *cells, of_memory])
        return table(head, lines)

    good = [r for r in records if "error" not in r]
    ratios = [r[f"{kind} ratio"] for r in good for kind in kinds]
    count = sum(ratio <= CATALOGUE for ratio in ratios)
    kept = f"{count} of {len(ratios)} ratios are at most {CATALOGUE:.2f}."
    return "\n\n".join([*per_library(records, body), kept])


def missed(records: dict[str, Records]) -> str:
    """Return which targets are not met, of all kinds."""
    aims = [("time", _row(r), r["ratio"], r["target"]) for r in records["speed"] if "ratio" in r]
    for r in records["memory"]:
        aims.append(("memory in logits", _row(r), r["ours"], r["targets"][0]))
        aims.append(("memory", _row(r), r["ours"] / r["theirs"], r["targets"][1]))
    for r in records["catalogue"]:
        aims += [(f"{kind}, catalogue", _row(r), r[f"{kind} ratio"], CATALOGUE) for kind in ("time", "memory")]
    for r in records["shares"]:
        row = f"{TITLES[r['library']]}: cross entropy of {r['target']}"
        aims += [("time beside labels", row, r["ratio"], SHARES[0]), ("memory in logits", row, r["logits"], SHARES[1])]
    aims += [("exponent above the bound", _row(r), r["exponent"], r["target"]) for r in records["growth"]]
    aims = [aim for aim in aims if aim[3] is not None]
    over = [[*aim[:2], f"{aim[2]:.3f}", f"{aim[3]:.2f}"] for aim in aims if aim[2] > aim[3]]
    count = f"Of {len(aims)} targets {len(aims) - len(over)} are met"
    return f"{count}, and these are not:\n\n{table(['of', 'row', 'is', 'target'], over)}" if over else f"{count}."


def _row(r: dict[str, Any]) -> str:
    words = [TITLES[r["library"]], r["loss"], r.get("peer"), "value alone" if r.get("mode") == "value" else None]
    return ": ".join(word for word in words if word)


def pages(folder: Path) -> dict[str, str]:
    """Return what the documentation includes, by file name, from the results in a folder."""
    draw: dict[str, Callable[[Records], str]] = {
        "speed": speed,
        "memory": memory,
        "shares": shares,
        "growth": growth,
        "catalogue": catalogue,
    }
    results = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in draw}
    records = {name: result["records"] for name, result in results.items()}
    texts = {f"_{name}.md": tables(records[name]) for name, tables in draw.items()}
    versions = ", ".join(f"{package} {version}" for package, version in results["speed"]["machine"].items())
    return {**texts, "_missed.md": missed(records), "_machine.md": f"Measured with {versions}."}

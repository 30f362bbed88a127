"""The capability table as Markdown, from the data that the tests take their marks from."""

from __future__ import annotations

from arrayloss._cli.catalog import loss_classes
from arrayloss._core import capabilities


def table() -> str:
    """Return a table of losses and libraries for each library, and the limits with their reasons."""
    parts = []
    for library, ways in capabilities.WAYS.items():
        note = f"; {capabilities.UNTRIED[library]}" if library in capabilities.UNTRIED else ""
        parts.append(f"## {library}\n\nDtypes of the logits: {', '.join(capabilities.DTYPES[library])}{note}.\n")
        rows = [["", *ways], ["---"] * (len(ways) + 1)]
        rows += [
            [f"`{loss}`", *("no" if capabilities.limit(loss, library, way) else "yes" for way in ways)]
            for loss in (loss.__name__ for loss in loss_classes())
        ]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
    parts.append("## Exceptions\n")
    limits = [f"- {x.loss or 'Every loss'}, {x.library}, {x.way}: {x.reason}" for x in capabilities.LIMITS]
    parts.append("\n".join(limits) if limits else "None: every loss works in every way listed, in every dtype listed.")
    return "\n".join(parts) + "\n"

"""Write the paragraphs that losses share into their docstrings: `python docs/_shared/docstrings.py [--check]`.

They stand in `paragraphs.py`. A parameter that has no paragraph yet gets the one it shares, at its place.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from paragraphs import LOSSES, OWN, TEXTS, WORDS

FOLDER = Path(__file__).parents[2] / "arrayloss" / "losses"
WIDTH = 120
#: What no line ends within: code, formulas, intervals, shapes and tuples.
WHOLE = re.compile(r"``[^`]*``|:math:`[^`]*`|\[[^])]*[])]|\([A-Z\d\\*, ]+\)|\(total, weight\)|mean = total / weight")


def paragraph(loss: str, entry: str) -> list[str] | None:
    """Return the lines of a paragraph of a loss, at the indentation of a docstring; None where it has its own."""
    kind, own = LOSSES.get(loss, ("", {entry: OWN}))
    texts = TEXTS.get(entry, {})
    if own.get(entry, "") is OWN or not (kind in texts or "" in texts):
        return None
    what, text = texts.get(kind) or texts[""]
    words = {**WORDS[""], **WORDS.get(kind, {}), **own}
    head = f"{entry} : {what.format_map(words)}" if what else entry
    return [" " * 4 + head, *wrapped(text.format_map(words))]


def wrapped(text: str) -> list[str]:
    """Return a text as lines at the indentation of a paragraph."""
    kept = WHOLE.sub(lambda found: found[0].replace(" ", "\0"), text)
    indent = " " * 8
    lines = textwrap.wrap(kept, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def entries(lines: list[str]) -> Iterator[tuple[str, str, int, int]]:
    """Yield section, entry, first line and the line behind the last, of those of a docstring."""
    section, start, name = "", 0, ""
    for i, line in enumerate([*lines, ""]):
        if name and not line.startswith(" " * 8):
            yield section, name, start, i
            name = ""
        if i + 1 < len(lines) and re.fullmatch(" {4}-+", lines[i + 1]):
            section = line.strip()
        elif section in ("Parameters", "Returns", "Raises") and re.match(r" {4}[\w*]", line):
            start, name = i, line.split(" :")[0].strip()


def rewritten(source: str) -> str:
    """Return a module with the shared paragraphs in its docstrings."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if not isinstance(node, ast.FunctionDef) or node.name not in LOSSES or not ast.get_docstring(node):
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno
        doc = lines[first:last]
        for _, entry, start, end in reversed(list(entries(doc))):
            shared = paragraph(node.name, entry)
            if shared is not None:
                doc[start:end] = shared
        lines[first:last] = with_missing(node, doc)
    return "\n".join(lines) + "\n"


def with_missing(node: ast.FunctionDef, doc: list[str]) -> list[str]:
    """Return the lines of a docstring with those parameters that had no paragraph and share one."""
    parameters = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
    ends = {entry: end for section, entry, _, end in entries(doc) if section == "Parameters"}
    for i, name in reversed(list(enumerate(parameters))):
        if name not in ends and i and parameters[i - 1] in ends and (shared := paragraph(node.name, name)):
            doc[ends[parameters[i - 1]] : ends[parameters[i - 1]]] = shared
            return with_missing(node, doc)
    return doc


def main() -> int:
    """Rewrite the modules, or with --check say which would change."""
    changed = []
    for path in sorted(FOLDER.glob("*.py")):
        before = path.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            changed.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(after, encoding="utf-8")
    if changed and "--check" in sys.argv[1:]:
        print(
            f"{', '.join(changed)}: the docstrings are not those that docs/_shared/paragraphs.py gives; change shared "
            f"paragraphs there, or mark one as OWN, and run: python docs/_shared/docstrings.py"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

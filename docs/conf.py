"""Sphinx configuration. The pages and figures in docs/api are written here, from `arrayloss.__all__`."""

from __future__ import annotations

import inspect
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sphinx.application import Sphinx

import arrayloss as al

HERE = Path(__file__).parent
# For this process, and for the kernels that execute pages.
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

import _tables as benchmarks  # noqa: E402  (after the path is set)
from _shared import capabilities, executed, figures, snippets  # noqa: E402

from arrayloss._cli.catalog import families  # noqa: E402

project = "arrayloss"
author = "The arrayloss developers"
release = version = al.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_design"]
exclude_patterns = ["_build", "_shared", "api/_*"]
html_theme = "furo"
html_title = f"arrayloss {version}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# A page is executed anew when its cells change, and all are when what they run does.
nb_execution_mode = "cache"
OUTPUTS = executed.folder()
nb_execution_cache_path = str(OUTPUTS)
nb_execution_raise_on_error = True
nb_execution_timeout = executed.SECONDS_A_CELL
nb_merge_streams = True

default_role = "py:obj"
autodoc_typehints = "none"  # types, shapes and dtypes stand in the Parameters sections
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# References into arrayloss must resolve; those into NumPy, torch and JAX cannot without their inventories.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!arrayloss\b).*")]

# `DiceLoss` and `dice_loss` are one loss: the public names, by what they have in common, the class first.
pages: dict[str, list[str]] = {}
for name in sorted(al.__all__):
    pages.setdefault(name.replace("_", "").lower(), []).append(name)
losses = {names[0]: names[1] for names in pages.values() if len(names) == 2}
others = sorted((names[0] for names in pages.values() if len(names) == 1), key=str.lower)


def prepare(app: Sphinx) -> None:
    """Write the pages in docs/api, their figures, and the outputs of all pages, which Sphinx then finds.

    Sphinx itself would execute the pages one by one, or on two processes of which one has all that is slow. The
    Python blocks of the start page and the README are run too, except on CuPy, which needs a GPU.
    """
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    # What takes longest comes first.
    texts = [page for where in ("notebooks", "guides", "migration", ".") for page in sorted(HERE.glob(f"{where}/*.md"))]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(executed.keep, page, OUTPUTS) for page in texts if executed.has_cells(page)]
        jobs += [pool.submit(write, folder) for write in (figures.write_maps, figures.write_curves)]
        jobs += [pool.submit(snippets.run, HERE / page, without="cupy") for page in ("index.md", "../README.md")]
        write_api_pages(folder)
    for job in jobs:
        job.result()


def write_api_pages(folder: Path) -> None:
    """Write a page for every loss and every other public name, and the tables by family that api.md includes."""
    texts = {f"{name}.md": page(name, losses.get(name)) for name in [*losses, *others]}
    texts["_losses.md"] = "\n".join(
        f"### {family}\n\n" + table([[loss.__name__, losses[loss.__name__]] for loss in classes])
        for family, classes in families().items()
    )
    texts["_others.md"] = table([[name] for name in others])
    texts["_capabilities.md"] = capabilities.table()
    texts.update(benchmarks.pages(HERE.parent / "benchmarks" / "results"))

    for stale in {path.name for path in folder.glob("*.md")} - texts.keys():
        (folder / stale).unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # Sphinx reads again what was written again
            path.write_text(text, encoding="utf-8")


def page(name: str, function: str | None) -> str:
    """Return the page of a public name; for a loss, its function says everything and its class follows."""
    thing = getattr(al, name)
    directives = [f".. autofunction:: arrayloss.{function}"] if function else []
    if inspect.isclass(thing):
        # `function` has the docstring above; shown again, it would double the page.
        options = "   :members:\n   :special-members: __call__\n   :exclude-members: function"
        directives.append(f".. autoclass:: arrayloss.{name}\n{options}")
    elif callable(thing):
        directives.append(f".. autofunction:: arrayloss.{name}")
    else:
        directives.append(f".. autodata:: arrayloss.{name}")
    text = f"# {name}\n\n" + "\n".join(rst(directive) for directive in directives)
    return f"{text}\n{figures.section(name)}" if function else text


def table(rows: list[list[str]]) -> str:
    """Return a table of names, those of a row below one another, beside the first sentence of the last docstring."""
    lines = [".. list-table::", "   :widths: auto", ""]
    for names in rows:
        summary = inspect.getdoc(getattr(al, names[-1])).partition("\n\n")[0].replace("\n", " ")
        first, *rest = [f"| :py:obj:`~arrayloss.{name}`" for name in names]
        lines += [f"   * - {first}", *(f"       {name}" for name in rest), f"     - {summary}"]
    return rst("\n".join(lines))


def rst(text: str) -> str:
    """Wrap reStructuredText for a Markdown page."""
    return f"```{{eval-rst}}\n{text}\n```\n"


def shorten_class(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Replace the docstring of a loss class, which repeats its function's, by a reference to it."""
    loss = name.rpartition(".")[2]
    if what == "class" and loss in losses:
        lines[:] = [f"The options of :py:func:`arrayloss.{losses[loss]}`, bound: ``{loss}(...)(logits, target)``."]


def setup(app: Sphinx) -> None:
    """Connect the functions above to the build."""
    app.connect("builder-inited", prepare)
    app.connect("autodoc-process-docstring", shorten_class, priority=400)  # before numpydoc, at 500, reads it

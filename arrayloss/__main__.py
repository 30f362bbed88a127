"""The command line: `arrayloss`, also `python -m arrayloss`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from arrayloss import __version__
from arrayloss._cli import UserError, progress

_USAGE = "arrayloss [demo] [--plot FILE.png] [--json] [--steps N]\n       arrayloss {demo,evaluate,losses,backends} ..."
_ABOUT = """\
The losses of arrayloss at work. Without a command it runs the demo: the same small classifier trained with the same
loss on every array library that is installed, then every loss of the package compared between them."""
_EXAMPLES = """\
examples:
  arrayloss                              train on handwritten digits, compare all libraries and losses
  arrayloss --plot demo.png              the same, and draw it
  arrayloss losses                       the losses by family, a line each
  arrayloss evaluate --loss dice --logits scores.npy --target labels.npy
  arrayloss backends                     what is installed, and on which device it runs"""
_STATUS = """

exit status:
  0    done
  2    a wrong argument or an input that does not fit, told in one line on standard error
  130  interrupted
  141  the reader of the output closed it"""

_DEMO = """\
Arrange scikit-learn's handwritten digits in scenes, a class per pixel, and train the same small per-pixel classifier
with the same loss, initial weights and batches on NumPy and on whichever of CuPy, torch and JAX can run here. Printed
for each: version, device, loss, pixel accuracy and mean IoU on held-out scenes, time, and the largest difference of
values and gradients from a run on NumPy in float64; then the same difference for every loss of the package."""
_DEMO_EXAMPLES = """\
examples, for which you need: pip install "arrayloss[demo]"
  arrayloss demo --plot demo.png         train, compare and draw
  arrayloss demo --steps 50 --json       shorter, as data"""

_EVALUATE = """\
Compute a loss of arrays in .npy files, print its value and, with --grad, write its gradient with respect to the
logits."""
_EVALUATE_EXAMPLES = """\
examples:
  arrayloss evaluate --loss DiceLoss --logits scores.npy --target labels.npy --option smooth=1.0
  arrayloss evaluate --loss cross_entropy --logits scores.npy --target labels.npy \\
      --option "weight=[1, 2, 0.5]" --option ignore_index=None --backend torch --grad gradient.npy
  arrayloss evaluate --loss mixed --option losses=cross_entropy,dice --option coef=1,0.5 \\
      --logits scores.npy --target labels.npy --json
  arrayloss evaluate --loss mixed --option "losses=CrossEntropyLoss(), DiceLoss(smooth=1.0)" --option coef=1,0.5 \\
      --logits scores.npy --target labels.npy

The arrays: `import numpy; numpy.save("scores.npy", scores)`, the classes on axis 1 (--option axis=-1 for the last).
The options of each loss: `arrayloss losses NAME`."""

_LOSSES = """\
List the losses by family, a line each; of those named, their options with defaults, the formula, shapes and errors."""
_LOSSES_EXAMPLES = """\
examples:
  arrayloss losses
  arrayloss losses dice
  arrayloss losses --json"""

_BACKENDS = """\
Say of NumPy, CuPy, torch and JAX whether each is installed, in which version, on which devices it runs here, and what
is checked without being run here."""
_BACKENDS_EXAMPLES = """\
examples:
  arrayloss backends
  arrayloss backends --table             which loss works in which way, and in which dtypes, on which library
  arrayloss backends --json"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of this command line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# argparse names the type in its message: "invalid positive integer value: '0'".
_positive.__name__ = "positive integer"


def _parser() -> argparse.ArgumentParser:
    style: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(prog="arrayloss", usage=_USAGE, description=_ABOUT, epilog=_EXAMPLES + _STATUS, **style)
    parser.add_argument("--version", action="version", version=f"arrayloss {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, title="commands", prog="arrayloss")

    def command(name: str, brief: str, about: str, examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=brief, description=about, epilog=examples + _STATUS, **style)

    demo = command("demo", "train on every library that is installed (the default)", _DEMO, _DEMO_EXAMPLES)
    demo.add_argument("--plot", metavar="FILE.png", help="draw loss curves, a scene and each loss's gradient to a file")
    demo.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    demo.add_argument("--steps", metavar="N", type=_positive, default=500, help="training steps (default: %(default)s)")

    _add_evaluate(command("evaluate", "compute a loss from .npy files", _EVALUATE, _EVALUATE_EXAMPLES))

    losses = command("losses", "list the losses and their options", _LOSSES, _LOSSES_EXAMPLES)
    losses.add_argument("names", metavar="NAME", nargs="*", help="DiceLoss, dice_loss or dice; in any case")
    losses.add_argument("--json", action="store_true", help="print one JSON list instead of text")

    backends = command("backends", "say what is installed and what runs here", _BACKENDS, _BACKENDS_EXAMPLES)
    backends.add_argument("--table", action="store_true", help="print which loss works in which way on which library")
    backends.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    from arrayloss._cli.libraries import NAMES

    evaluate.add_argument("--loss", metavar="NAME", required=True, help="DiceLoss, dice_loss or dice; in any case")
    evaluate.add_argument(
        "--logits",
        metavar="A.npy",
        required=True,
        action="append",
        help="the logits; given again for a loss of several, such as (logits, edge)",
    )
    evaluate.add_argument("--target", metavar="B.npy", required=True, help="labels, or probabilities")
    evaluate.add_argument(
        "--option", metavar="K=V", action="append", default=[], help="an option of the loss, V written as in Python"
    )
    evaluate.add_argument(
        "--array",
        metavar="K=C.npy",
        action="append",
        default=[],
        help="a further array of the call, such as pixel_weight or noise",
    )
    evaluate.add_argument("--backend", choices=NAMES, default="numpy", help="the library to use (default: %(default)s)")
    evaluate.add_argument(
        "--grad",
        metavar="OUT.npy",
        help="write the gradient, of an array of values that of their sum; of further logits to OUT.1.npy, ...",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object instead of the value")


def _run(argv: Sequence[str]) -> None:
    # The demo is the main job: its options work without its name.
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["demo", *argv]
    args = _parser().parse_args(argv)
    match args.command:
        case "demo":
            from arrayloss._cli.demo import run
        case "evaluate":
            from arrayloss._cli.evaluate import run
        case "losses":
            from arrayloss._cli.losses import run
        case _:
            from arrayloss._cli.backends import run
    run(args)
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 for an error of the user's, told in one line.

    Parameters
    ----------
    argv : list of str, optional
        The arguments without the name of the program; by default those of the process.
    """
    try:
        _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        progress.clear()
        print(f"arrayloss: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress.clear()
        return 130
    except BrokenPipeError:
        # Whoever read the output has had enough (`arrayloss | head`); the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

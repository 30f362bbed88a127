"""The commands of `arrayloss`, a module each; array libraries are imported by the command that needs them."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend, told in one line."""


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, and its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__

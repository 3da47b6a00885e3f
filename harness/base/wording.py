"""Counts and names in messages for people."""

from __future__ import annotations

import os
from pathlib import Path


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """'1 fault', '2 faults', '1,000 faults'; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """`text` as a terminal only shows it: what is not printable escaped, but for ends of lines."""
    return "\n".join(
        line if line.isprintable() else
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in text.split("\n"))


def shown(path: Path | str) -> str:
    """A path as text that can be written anywhere: as UTF-8, with \\xNN for bytes that are none.

    In the locale C Python decodes no other letters than ASCII's; what it puts in their place opens
    files, but is no text.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")

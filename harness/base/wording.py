"""Counts and names in messages for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """'1 fault', '2 faults', '1,000 faults'; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line a row, every column as wide as its widest text, without spaces at the end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size(count: float, places: int = 1) -> str:
    """Bytes as '1.2 GB', those of less than a tenth of one as '12.3 MB'."""
    divisor, unit = (1e9, "GB") if count >= 1e8 else (1e6, "MB")
    return f"{count / divisor:,.{places}f} {unit}"


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

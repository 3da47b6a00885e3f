"""A table of the page as plain values, which its template writes down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One table cell: what is shown, what it sorts by, and a second, quieter line."""

    shown: str
    sort: float | str
    under: str = ""
    tip: str = ""
    tone: str = ""  # better, worse, apart, best


@dataclass(frozen=True)
class Head:
    """A column's heading. `number`: right-aligned, sorts as a number."""

    text: str
    tip: str = ""
    number: bool = False
    group: str = ""
    under: str = ""


@dataclass
class Table:
    """A sortable, filterable table of the page."""

    key: str
    heads: list[Head]
    rows: list[list[Cell]]
    left_out: int = 0
    apart: bool = False  # greyed
    groups: list[tuple[str, int]] = field(default_factory=list)


def sort_key(value: Any) -> float | str:
    """What a cell of this value sorts by: a number, or text; '' for what is not there."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool | str):
        return str(value)
    return float(value) if isinstance(value, int | float) or hasattr(value, "item") else str(value)

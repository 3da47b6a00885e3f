"""How values are written for people; CSV has them in full."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from reports.tables.columns import Column

_DIGEST = re.compile(r"[0-9a-f]{32,128}")
NOTHING = "\N{EN DASH}"


def text(value: Any, kind: str) -> str:
    """`value` as a table cell of the kind that `Column.kind` names; a dash where there is none."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    return _WRITE[kind](value)


def short(value: Any) -> str:
    """Text, digests cut to where they are still told apart."""
    return f"{value[:12]}…" if isinstance(value, str) and _DIGEST.fullmatch(value) else str(value)


def cell(row: pd.Series, column: Column, steps: float | None = None) -> str:
    """A cell of the comparison: quality figures with their interval, and step if not the last."""
    value = text(row[column.key], column.kind)
    if not column.protocol or value == NOTHING:
        return value
    low, high = row[f"{column.key} low"], row[f"{column.key} high"]
    if not (pd.isna(low) or pd.isna(high)):
        value += f" [{text(low, column.kind)}, {text(high, column.kind)}]"
    step = row[f"{column.key} step"]
    if steps is not None and step != steps:
        value += f" at step {step:,}"
    return value


def significant(value: float, digits: int = 4) -> str:
    """`digits` significant digits, thousands separated, no exponent where a human needs none."""
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places > 8:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(places, 0)}f}"


def duration(hours: float) -> str:
    """Hours in the unit that suits them."""
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{significant(hours, 3)} h" if hours < 72 else f"{significant(hours / 24, 3)} days"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.2f} GiB"


_WRITE: dict[str, Callable[[Any], str]] = {
    "text": short,
    "id": str,
    "flag": lambda v: "yes" if v else "no",
    "count": lambda v: f"{int(v):,}",
    "number": significant,
    "figure": significant,
    "loss": lambda v: f"{v:.4f}" if 1e-3 < abs(v) < 1e4 else significant(v),
    "share": lambda v: f"{100 * v:.1f} %",
    "bytes": _bytes,
    "hours": duration,
    "ratio": lambda v: f"{v:.3f}\N{MULTIPLICATION SIGN}",
    "money": lambda v: f"{v:,.2f}",
}

"""A study's figures as CSV, in full: what the other tables are made of, and can be checked by."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from harness.studies.study_figures import Figure, Figures
from harness.studies.study_file import AXES
from harness.studies.study_table import Compared, Row

_FIGURE = ("metric", "protocol", "protocol_digest")


def files(found: Figures, rows: Sequence[Row], compared: Sequence[Compared]) -> dict[str, bytes]:
    """cells.csv (one value a line), table.csv (means), comparisons.csv: file name -> content."""
    return {
        "cells.csv": _csv(("cell", *AXES, "seed", *_FIGURE, "value", "missing"), _cells(found)),
        "table.csv": _csv(
            (*AXES, *_FIGURE, "planned", "seeds", "mean", "low", "high", "apart"), _means(rows)),
        "comparisons.csv": _csv(
            (*AXES, "axis", "against", *_FIGURE, "minimum", "seeds_against", "seeds", "paired",
             "p", "level", "better_by_low", "better_by_high", "answer", "verdict"),
            _comparisons(compared)),
    }  # fmt: skip


def _cells(found: Figures) -> Iterable[Sequence[Any]]:
    for one in found.cells:
        place = (one.cell.id, *(one.cell.axes[axis] for axis in AXES), one.cell.seed)
        if one.missing:
            yield (*place, "", "", "", "", one.missing)
            continue
        for figure in found.figures:
            value = one.values.get(figure.key)
            odd = "not a finite number" if figure.key in one.odd else "not measured"
            yield (*place, *_named(figure), value, odd if value is None else "")


def _means(rows: Sequence[Row]) -> Iterable[Sequence[Any]]:
    for row in rows:
        for entry in row.entries:
            known = entry.summary
            four = (known.n, known.mean, known.low, known.high) if known else (0, None, None, None)
            yield (*row.axes, *_named(entry.figure), entry.planned, *four, entry.apart)


def _comparisons(compared: Sequence[Compared]) -> Iterable[Sequence[Any]]:
    for one in compared:
        known, level = one.difference, 1 - one.judgement.alpha
        seen = (*known.n, known.paired, known.p_different) if known else (None,) * 4
        yield (*one.axes, one.axis, one.against, *_named(one.figure), one.minimum, *seen, level,
               one.low, one.high, one.judgement.answer, one.verdict)  # fmt: skip


def _named(figure: Figure) -> tuple[str, str, str]:
    return figure.metric, figure.protocol, figure.digest


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_text(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _text(value: Any) -> str:
    """Numbers with all their digits; nothing where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)

"""A study's report: its tables as CSV, Markdown and LaTeX, and the page with pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from harness.base.wording import counted
from harness.studies import (
    study_csv,
    study_figures,
    study_latex,
    study_plots,
    study_statistics,
    study_table,
)
from harness.studies.study_figures import Figure, Figures
from harness.studies.study_table import Compared, Row
from reports.output import short_page
from reports.output.short_page import Section

_COMPARISON = ("comparison", "figure", "verdict", "seeds", "p")


def tables(found: Figures) -> dict[str, bytes]:
    """The files that hold figures and no picture: CSV, study.tex; the same bytes every time."""
    rows, compared = study_table.rows(found), study_table.compared(found)
    return _tables(found, rows, compared)


def files(found: Figures) -> dict[str, bytes]:
    """Every file of the report; the one to open comes last."""
    rows, compared = study_table.rows(found), study_table.compared(found)
    page = short_page.files(
        "study", found.study.name, lead(found), _sections(found, rows, compared)
    )
    return _tables(found, rows, compared) | page


def text(found: Figures) -> str:
    """The table and the verdicts as Markdown, for a terminal."""
    rows, compared = study_table.rows(found), study_table.compared(found)
    sections = [dataclasses.replace(one, picture=None)
                for one in _sections(found, rows, compared, pictures=False)]
    return short_page.files("study", found.study.name, lead(found), sections)["study.md"].decode()


def lead(found: Figures) -> str:
    """What was asked, and how much of it is there."""
    there = sum(not one.missing for one in found.cells)
    return (f"{found.study.question} {there} of {counted(len(found.cells), 'cell')}, "
            f"study {found.study.digest[:12]}.")


def _tables(
    found: Figures, rows: Sequence[Row], compared: Sequence[Compared]
) -> dict[str, bytes]:
    heads, body = _means(found, rows)
    latex = study_latex.table(
        heads, body, text_columns=len(found.study.varied), name=found.study.name,
        caption=f"{found.study.question} {_note(found)}",
    )
    return study_csv.files(found, rows, compared) | {"study.tex": latex.encode()}


def _means(found: Figures, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    axes = found.study.varied
    places = [study_table.AXES.index(axis) for axis in axes]
    heads = [*axes, "seeds", *(_heading(found, figure) for figure in found.figures)]
    body = []
    for row in rows:
        cells = found.groups[row.axes]
        there = sum(not one.missing for one in cells)
        seeds = str(there) if there == len(cells) else f"{there} of {len(cells)}"
        body.append([*(row.axes[at] for at in places), seeds,
                     *(study_table.value_text(entry, there) for entry in row.entries)])
    return heads, body


def _heading(found: Figures, figure: Figure) -> str:
    """A protocol that all figures of quality share is told once, in the note."""
    return figure.name if len(_protocols(found)) == 1 else figure.heading


def _protocols(found: Figures) -> dict[str, str]:
    """Digest -> label of every protocol."""
    return {figure.digest: figure.protocol for figure in found.figures if figure.digest}


def _note(found: Figures) -> str:
    said = (f"Mean and half of the {100 * study_statistics.LEVEL:g} % interval of the mean over "
            "seeds (Student's t).")
    protocols = list(_protocols(found).values())
    return f"{said} Quality by {protocols[0]}." if len(protocols) == 1 else said


def _sections(
    found: Figures, rows: list[Row], compared: Sequence[Compared], *, pictures: bool = True
) -> list[Section]:
    heads, body = _means(found, rows)
    made = [Section("Table", _note(found), heads, body)]
    if compared:
        made.append(Section(
            "Planned comparisons",
            f"{counted(len(compared), 'comparison')} planned and corrected together (Holm): in at "
            f"most {100 * study_statistics.FAMILY_ALPHA:g} of 100 such studies is any difference "
            "claimed where there is none, and in as many any equality where the difference counts.",
            _COMPARISON, [_verdict(found, one) for one in compared],
        ))  # fmt: skip
    if lacking := study_figures.missing(found):
        made.append(Section("Missing", "", ("cell", "what is missing"), lacking))
    if pictures:
        made += [Section(title, picture=picture)
                 for title, picture in study_plots.pictures(found, rows).items()]
    return made


def _verdict(found: Figures, one: Compared) -> list[str]:
    axes = dict(zip(study_table.AXES, one.axes, strict=True)) | {one.axis: one.against}
    sides = (one.axes, study_figures.axes_of(axes))
    names = " against ".join(study_table.label(found, side) for side in sides)
    known = one.difference
    seeds, p = "", ""
    if known:
        same = len(set(known.n)) == 1
        seeds = f"{known.n[0]}" if same else f"{known.n[1]} and {known.n[0]}"
        seeds += " in pairs" if known.paired else ""
        p = "" if math.isnan(known.p_different) else f"{known.p_different:.2g}"
    return [names, _heading(found, one.figure), one.verdict, seeds, p]

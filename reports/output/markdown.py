"""The report as Markdown, with pictures beside it."""

from __future__ import annotations

import re

import pandas as pd

from reports.output import markdown_plots, number_formats, sample_grids
from reports.tables.columns import Column
from reports.tables.report import Report

_TABLE_KINDS = {
    "step": "count", "steps": "count", "full_steps": "count", "devices": "count", "n": "count",
    "n_samples": "count", "seconds_per_step": "number", "hours_left": "hours",
    "hours_total": "hours", "device_hours_total": "number", "device_hours": "number",
    "cost_left": "money", "cost_total": "money", "value": "figure", "low": "figure",
    "high": "figure", "reference_value": "figure", "mean": "figure", "sd": "figure",
    "min": "figure", "max": "figure",
}  # fmt: skip
HEADINGS = {
    "full_steps": "of", "seconds_per_step": "s/step", "hours_left": "time left",
    "hours_total": "time in all", "device_hours_total": "device-hours in all",
    "cost_left": "cost left, USD", "cost_total": "cost in all, USD", "n_samples": "N",
    "device_hours": "device-hours", "reference_value": "reference",
}  # fmt: skip


def files(report: Report) -> dict[str, bytes]:
    """report.md and its pictures: file name -> content."""
    pictures = markdown_plots.over_steps(report.records, report.columns)
    samples = _samples(report)
    text = "\n".join(_text(report, list(pictures), samples)) + "\n"
    made = {name: content for _, content_by_name in samples for name, content in
            content_by_name.values()}  # fmt: skip
    return {**pictures, **made, "report.md": text.encode()}


def _text(report: Report, pictures: list[str], samples: list) -> list[str]:
    tables = report.tables
    text = [f"# {report.title}", "", escape(report.introduction), "", "## Comparison", ""]
    text += [_markdown(comparison_cells(report)), ""]
    noted = [column for column in report.shown_columns() if column.note]
    text += [f"- **{escape(column.heading)}**: {escape(column.note)}" for column in noted]
    if len(report.records) > 1:
        text += ["", f"## Ratios against {escape(report.reference.label)}", ""]
        text += [_markdown(ratio_cells(report)), ""]
    if len(tables["not_like_for_like"]):
        text += ["", "## Not like for like", "", "No ratio is taken of these.", ""]
        text += [_markdown(cells(tables["not_like_for_like"], report.columns)), ""]
    if pictures:
        text += ["", "## Over steps", ""]
        text += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    for title, by_run in samples:
        text += ["", f"## {escape(title)}", "", *_side_by_side(by_run)]
    for name, title in (
        ("seeds", "Over seeds (mean and standard deviation)"),
        ("projection", "Projected to the full steps (training alone)"),
        ("differences", "What differs between the runs"),
        ("protocols", "Protocols"),
        ("changes", "Changes over nights"),
    ):
        if name in tables and len(tables[name]):
            text += ["", f"## {title}", "", _markdown(cells(tables[name], report.columns))]
    text += ["", "## Files", ""]
    text += [f"- [{name}.csv]({name}.csv)" for name in tables]
    return text


def comparison_cells(report: Report) -> pd.DataFrame:
    """The comparison as text, without columns that no run has a value in."""
    table, shown = report.tables["comparison"], report.shown_columns()
    return pd.DataFrame({
        c.heading: [number_formats.cell(row, c, row["steps"]) for _, row in table.iterrows()]
        for c in shown
    })  # fmt: skip


def ratio_cells(report: Report) -> pd.DataFrame:
    """The ratios as text, without columns that hold none."""
    table = report.tables["ratios"]
    shown = [c for c in report.columns if c.group and table[c.key].notna().any()]
    out = {"Run": list(table["run"])}
    return pd.DataFrame(
        out | {c.heading: [number_formats.text(v, "ratio") for v in table[c.key]] for c in shown}
    )


def cells(table: pd.DataFrame, columns: list[Column]) -> pd.DataFrame:
    """Any other table as text. A row that names a `figure` is written as that figure is."""
    own = {column.key: column for column in columns}
    # 'X against Y' is a pair across protocols, of one metric.
    figures = [own.get(str(f).split("] against ")[0] + "]", own.get(f)) for f in table["figure"]
               ] if "figure" in table else [None] * len(table)  # fmt: skip
    out = {}
    for name in table:
        kind = _TABLE_KINDS.get(name, "text")
        kinds = [f.kind if f and kind == "figure" else kind for f in figures]
        pairs = zip(table[name], kinds, strict=True)
        out[heading(name)] = [number_formats.text(v, k) for v, k in pairs]
    if "figure" in table:
        named = zip(table["figure"], figures, strict=True)
        out["figure"] = [f.heading if f and f.key == key else str(key) for key, f in named]
    return pd.DataFrame(out)


def heading(name: str) -> str:
    """A table column's heading; names of runs and protocols stay as they are."""
    return HEADINGS.get(name, name)


def numeric(name: str) -> bool:
    """Whether a table's column holds numbers."""
    return name in _TABLE_KINDS


def _markdown(table: pd.DataFrame) -> str:
    numbers = re.compile(rf"[-\d{number_formats.NOTHING}]")
    align = [
        "right" if len(table) and all(numbers.match(v) for v in table[c]) else "left"
        for c in table
    ]
    escaped = table.rename(columns=escape).map(escape)
    return escaped.to_markdown(index=False, disable_numparse=True, colalign=align)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell as well."""
    text = re.sub(r"([\\|*`_~\[\]])", r"\\\1", " ".join(str(text).split()))
    # Not with a backslash: where Markdown is passed on as HTML, it would stand before a tag.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _samples(report: Report) -> list[tuple[str, dict[str, tuple[str, bytes]]]]:
    """(title, run -> (file name, PNG)) per series: every run's grid at its last step."""
    out = []
    for number, series in enumerate(sample_grids.find(report.records)[:4], 1):
        by_run = {}
        for run, paths in list(series.paths.items())[:8]:
            step = max(paths)
            name = f"samples-{number}-{_file_name(run)}-{step:08d}.png"
            by_run[f"{run}, step {step:,}"] = (name, sample_grids.png(paths[step]))
        out.append((series.title, by_run))
    return out


def _file_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", label)


def _side_by_side(by_run: dict[str, tuple[str, bytes]]) -> list[str]:
    titles = " | ".join(escape(title) for title in by_run)
    pictures = " | ".join(f"![{escape(t)}]({name})" for t, (name, _) in by_run.items())
    return [f"| {titles} |", "|" + " --- |" * len(by_run), f"| {pictures} |"]


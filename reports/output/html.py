"""The report as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import pandas as pd

from harness.base.wording import counted
from reports.output import (
    first_screen,
    markdown,
    number_formats,
    page_charts,
    page_frame,
    sample_grids,
)
from reports.output.page_tables import Cell, Head, Table, sort_key
from reports.reading import figure_protocols
from reports.tables import history
from reports.tables.columns import Column
from reports.tables.report import Report

_MOST_ROWS = 500  # of a table in the page; CSV has them all
_FEW_RUNS = 8  # up to here, what differs is shown with one column a run


def page(report: Report) -> str:
    """The whole report.html."""
    labels = [r.label for r in report.records]
    shown = sample_grids.for_page(sample_grids.find(report.records), labels)
    curve_charts, scatters = page_charts.curve_charts(report), page_charts.scatter_charts(report)
    frontier = first_screen.frontier(report, scatters)
    nights = history_charts(report.history) if report.history else []
    data = {
        "charts": [*curve_charts, *scatters, *nights],
        "grids": [{"steps": s.steps, "images": s.images} for s in shown],
    }
    return page_frame.render(
        "reports.output", "report.html",
        title=report.title, lead=report.introduction, report=report,
        glance=first_screen.table(report), frontier=frontier,
        comparison=comparison(report),
        tables=_tables(report),
        curves=curve_charts, nights=nights, grids=shown,
        scatters=[chart for chart in scatters if chart is not frontier],
        plotly=_plotly(), data=_json(data),
    )  # fmt: skip


def comparison(report: Report) -> Table:
    """The comparison, every figure with its ratio (or why there is none) underneath."""
    table, ratios = report.tables["comparison"], report.tables["ratios"]
    apart = report.tables["not_like_for_like"]
    reasons = dict(
        zip(zip(apart["run"], apart["figure"], strict=True), apart["reason"], strict=True)
    )
    columns = report.shown_columns()
    rows = []
    for (_, row), (_, ratio) in zip(table.iterrows(), ratios.iterrows(), strict=True):
        is_reference = row["run"] == report.reference.label
        rows.append([
            _figure(row, c, math.nan if is_reference else ratio.get(c.key, math.nan),
                    reasons.get((row["run"], c.key), ""))
            for c in columns
        ])  # fmt: skip
    heads = [_head(column) for column in columns]
    made = Table("comparison", heads, rows)
    for head in heads:
        if made.groups and made.groups[-1][0] == head.group:
            made.groups[-1] = (head.group, made.groups[-1][1] + 1)
        else:
            made.groups.append((head.group, 1))
    return made


def _head(column: Column) -> Head:
    name, _, protocol = column.heading.partition(" · ")
    return Head(name, column.note, column.kind not in ("text", "flag"), _group(column), protocol)


def _figure(row: pd.Series, column: Column, ratio: Any, reason: str) -> Cell:
    value = row[column.key]
    shown, tone, under, tip = number_formats.text(value, column.kind), "", "", column.note
    if column.protocol and not pd.isna(value):
        low, high, step = (row[f"{column.key} {part}"] for part in ("low", "high", "step"))
        if not (pd.isna(low) or pd.isna(high)):
            under = " to ".join(number_formats.text(end, column.kind) for end in (low, high))
        if step != row["steps"]:
            under += f"{', ' if under else ''}step {step:,}"
    if column.group and isinstance(ratio, float) and not math.isnan(ratio):
        under += f"{' · ' if under else ''}{number_formats.text(ratio, 'ratio')}"
        gain = (ratio - 1) * column.better
        tone = "" if abs(gain) < 0.005 else "better" if gain > 0 else "worse"
    elif reason:
        under += f"{' · ' if under else ''}not like for like"
        tip, tone = reason, "apart"
    return Cell(shown, sort_key(value), under, tip, tone)


def _group(column: Column) -> str:
    if column.protocol:
        return "Quality"
    places = {"size": "Model", "loss": "Loss", "memory": "Memory"}
    speed = ("speed", "speed_per_device", "step")
    if column.group in speed or column.key in ("mfu_peak", "data_wait_share"):
        return "Speed"
    if column.key in ("steps", "full_steps"):
        return "Steps"
    if column.key in ("devices", "device", "stack", "kernels", "device_hours",
                      "throttled_share", "others_share"):
        return "Machine"
    return places.get(column.group, "Run")


def _tables(report: Report) -> dict[str, Table]:
    made = {}
    for name in ("not_like_for_like", "seeds", "projection", "evaluations", "protocols",
                 "changes"):  # fmt: skip
        if name in report.tables and len(report.tables[name]):
            made[name] = plain(name, report.tables[name], report.columns)
    if "not_like_for_like" in made:
        made["not_like_for_like"].apart = True
    differing = report.tables["differences"]
    if len(differing):
        few = len(report.records) <= _FEW_RUNS
        chosen = differing if few else distinct(differing)
        made["differences"] = plain("differences", chosen, report.columns)
    return made


def distinct(differing: pd.DataFrame) -> pd.DataFrame:
    """What differs among many runs: per key its values, each with how many runs have it."""
    rows = []
    for _, row in differing.iterrows():
        counts = row.drop("key").map(lambda v: number_formats.text(v, "text"))
        counts = counts.value_counts(sort=True)
        listed = [f"{value} ({counted(n, 'run')})" for value, n in counts.head(6).items()]
        more = [f"and {len(counts) - 6} other values"] if len(counts) > 6 else []
        rows.append({"key": row["key"], "values": "; ".join(listed + more)})
    return pd.DataFrame(rows)


def plain(name: str, frame: pd.DataFrame, columns: list[Column]) -> Table:
    """Any other table of the report."""
    written = markdown.cells(frame.head(_MOST_ROWS), columns)
    values = frame.head(_MOST_ROWS).to_numpy(dtype=object)
    heads = [Head(markdown.heading(c), "", markdown.numeric(c)) for c in frame]
    rows = [
        [Cell(text, sort_key(value)) for text, value in zip(texts, row, strict=True)]
        for texts, row in zip(written.to_numpy(dtype=object), values, strict=True)
    ]
    return Table(name, heads, rows, max(0, len(frame) - _MOST_ROWS))


def history_charts(nights: history.History) -> list[dict[str, Any]]:
    """One chart per figure; a line per (config, digest, device, kernels), changes marked."""
    made = []
    for figure, rows in nights.figures.groupby("figure", sort=False):
        lines = []
        for key, series in rows.groupby(history.SERIES, sort=True):
            config, digest, device, kernels, _ = key
            same = (nights.changes[history.SERIES] == pd.Series(key, history.SERIES)).all(axis=1)
            lines.append({
                "name": f"{config} · {device} · {kernels} · {digest[:6]}",
                "x": list(series["night"]),
                "y": [float(f"{v:.6g}") for v in series["value"]],
                "changes": list(nights.changes.loc[same, "night"]),
            })  # fmt: skip
        heading = figure_protocols.heading(str(figure)) if "[" not in str(figure) else str(figure)
        made.append({
            "kind": "history", "key": f"history {figure}", "title": heading, "series": lines,
            "note": "Diamonds: the first night of a new level.", "legend": len(lines) <= 12,
        })  # fmt: skip
    return made


def _plotly() -> str:
    # The file itself: importing plotly would take a second and add nothing.
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def _json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # Inside <script> only this could end it.
    return text.replace("<", "\\u003c")

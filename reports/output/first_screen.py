"""The report's first screen: speed, memory and quality of each run in one row, and a verdict."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.output import number_formats
from reports.output.page_tables import Cell, Head, Table, sort_key
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables import comparability
from reports.tables.columns import Column
from reports.tables.report import Report

_SAME = 0.005  # a ratio that is nearer to 1 counts as none
_WORDS = {  # what more of it is called, and less
    "speed": ("faster", "slower", "as fast"),
    "memory": ("more memory", "less memory", "as much memory"),
}


def quality(report: Report) -> Column | None:
    """The distance that most runs have (FID first); else the headline figure that most have."""
    table = report.tables["comparison"]
    having = [
        (figure_protocols.is_distance(column.metric), int(table[column.key].notna().sum()), -place)
        for place, column in enumerate(report.columns)
        if column.protocol and column.better and figure_protocols.is_headline(column.metric)
    ]
    having = [one for one in having if one[1]]
    return report.columns[-max(having)[2]] if having else None


def table(report: Report) -> Table:
    """A row a run: images/s, peak memory, quality with its interval, and how it stands."""
    chosen = columns(report)
    heads = [Head("Run"), *(_head(column) for column in chosen)]
    if len(report.records) > 1:
        heads.append(Head(f"Against {report.reference.label}"))
    best = {column.key: _best(report, column) for column in chosen}
    comparison = report.tables["comparison"].set_index("run")
    rows = []
    for record in report.records:
        row = comparison.loc[record.label]
        config = str(record.config.get("name", ""))
        cells = [Cell(record.label, record.label, config if config != record.label else "")]
        cells += [_figure(row, column, record.label == best[column.key]) for column in chosen]
        if len(report.records) > 1:
            said = against(report, record, chosen)
            cells.append(Cell(said, said))
        rows.append(cells)
    return Table("glance", heads, rows)


def columns(report: Report) -> list[Column]:
    """Speed, peak memory (of the device where there is one) and one quality figure."""
    by_key = {column.key: column for column in report.columns}
    measured = report.tables["comparison"]["peak_device_bytes"].notna().any()
    memory = by_key["peak_device_bytes" if measured else "peak_host_bytes"]
    shown = quality(report)
    return [by_key["images_per_second"], memory, *([shown] if shown else [])]


def against(report: Report, record: Record, chosen: list[Column]) -> str:
    """How a run stands to the reference in each of these figures, in words."""
    if record is report.reference:
        return "the reference"
    frame = report.tables["ratios"].set_index("run")
    said = []
    for column in chosen:
        ratio = frame.at[record.label, column.key] if column.key in frame else None
        if comparability.reasons(record, report.reference, column):
            said.append(f"{_name(column)} not like for like")
        elif ratio is not None and not pd.isna(ratio):
            said.append(_compared(report, record, column, float(ratio)))
    return "\n".join(said) or number_formats.NOTHING


def _compared(report: Report, record: Record, column: Column, ratio: float) -> str:
    if not column.protocol:
        more, less, same = _WORDS["memory" if column.kind == "bytes" else "speed"]
        if abs(ratio - 1) < _SAME:
            return same
        share = number_formats.significant(100 * abs(ratio - 1), 2)
        return f"{share} % {more if ratio > 1 else less}"
    frame = report.tables["comparison"].set_index("run")
    ends = [
        (frame.at[one.label, f"{column.key} low"], frame.at[one.label, f"{column.key} high"])
        for one in (record, report.reference)
    ]
    name = _name(column)
    if any(pd.isna(end) for pair in ends for end in pair):
        return f"{name} {number_formats.text(ratio, 'ratio')}, no interval"
    (low, high), (reference_low, reference_high) = ends
    if low <= reference_high and reference_low <= high:
        return f"{name} the same within intervals"
    return f"{name} {'better' if (ratio - 1) * column.better > 0 else 'worse'}"


def _name(column: Column) -> str:
    if column.protocol:
        return column.heading.partition(" · ")[0]
    return "memory" if column.kind == "bytes" else "speed"


def _head(column: Column) -> Head:
    name, _, protocol = column.heading.partition(" · ")
    if column.kind == "bytes":
        name = "Device memory, GiB" if "device" in column.key else "Host memory, GiB"
    return Head(name, column.note, True, "", protocol)


def _best(report: Report, column: Column) -> str | None:
    """The label of the best run of those like for like with the reference, of two or more.

    None where another's interval reaches into its own: which is better is then not known.
    """
    whole = report.tables["comparison"].set_index("run")
    frame = whole[column.key]
    alike = [
        record.label for record in report.records if pd.notna(frame[record.label])
        and not comparability.reasons(record, report.reference, column)
    ]
    if len(alike) < 2:
        return None
    values = frame[alike].astype(float)
    best = str(values.idxmax() if column.better > 0 else values.idxmin())
    if column.protocol:
        low, high = (
            whole.loc[alike, f"{column.key} {end}"].astype(float) for end in ("low", "high"))
        others = [label for label in alike if label != best]
        if any(low[best] <= high[one] and low[one] <= high[best] for one in others):
            return None
    return best


def _figure(row: pd.Series, column: Column, is_best: bool) -> Cell:
    value = row[column.key]
    shown = number_formats.text(value, column.kind).removesuffix(" GiB")
    under: list[str] = []
    if column.protocol and not pd.isna(value):
        low, high, step = (row[f"{column.key} {part}"] for part in ("low", "high", "step"))
        if not (pd.isna(low) or pd.isna(high)):
            under.append(" to ".join(number_formats.text(end, column.kind) for end in (low, high)))
        if step != row["steps"]:
            under.append(f"step {step:,}")
    if is_best:
        under.append("★ best")
    return Cell(shown, sort_key(value), " · ".join(under), tone="best" if is_best else "")


def frontier(report: Report, charts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the scatter charts that of this quality against throughput."""
    column = quality(report)
    wanted = f"{column.key} over images_per_second_per_device" if column else ""
    return next((chart for chart in charts if chart["key"] == wanted), None)

"""The page's charts as plain data: report.js makes plotly traces of them.

Curves carry steps and device-hours, so that the page can switch between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from harness.base.wording import counted
from reports.output import number_formats, palette, thinning
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables import comparability, comparison_tables
from reports.tables.columns import Column
from reports.tables.report import Report

_LEGEND_UP_TO = 12


def curve_charts(report: Report) -> list[dict[str, Any]]:
    """Training loss, then one chart per quality metric and protocol."""
    points = thinning.points_each(len(report.records))
    charts = [
        _curve_chart(report, "loss", "Training loss",
                     lambda r: thinning.training(r, "loss", points), False)
    ]  # fmt: skip
    for column in report.columns:
        if column.protocol and not column.metric.endswith("_infinity"):
            metric, digest = column.metric, column.protocol.digest
            charts.append(_curve_chart(
                report, column.key, column.heading,
                partial(thinning.evaluations, metric=metric, protocol_digest=digest), True,
                share=metric in figure_protocols.SHARES,
            ))  # fmt: skip
    return [chart for chart in charts if chart["series"]]


def _curve_chart(
    report: Report, key: str, title: str, curve_of: Callable[[Record], thinning.Curve | None],
    marked: bool, *, share: bool = False,
) -> dict[str, Any]:  # fmt: skip
    styles = palette.styles(report.records)
    found = {r.label: curve for r in report.records if (curve := curve_of(r)) is not None}
    means, joined = [], set()
    for group in report.seed_groups:
        there = [r.label for r in group if r.label in found]
        if mean := _mean_of([found[label] for label in there]):
            name = f"{group[0].config.get('name', '')}, mean of {mean[2]} seeds"
            means.append(_series(name, mean[0], styles[there[0]], marked, band=mean[1]))
            joined |= set(there)
    series = [
        _series(label, curve, styles[label], marked, faint=label in joined)
        for label, curve in found.items()
    ] + means
    lines = max((curve.lines for curve in found.values()), default=1)
    values = [curve.values for curve in found.values()]
    positive = np.concatenate(values) if values else np.array([])
    positive = positive[positive > 0]
    falls = len(positive) > 0 and positive.max() / positive.min() > 8
    return {
        "kind": "curves", "key": key, "title": title, "series": series,
        "share": share, "log": bool(falls and not share),
        "note": f"Each point is the mean of up to {lines} log lines." if lines > 1 else "",
    }  # fmt: skip


def _series(
    label: str, curve: thinning.Curve, style: tuple[str, str], marked: bool, *,
    faint: bool = False, band: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    made = {
        "name": label, "colour": style[0], "dash": style[1], "faint": faint, "marked": marked,
        "steps": rounded(curve.steps), "hours": rounded(curve.hours), "y": rounded(curve.values),
    }  # fmt: skip
    if band is not None:
        made["low"] = rounded(curve.values - band)
        made["high"] = rounded(curve.values + band)
    return made


def _mean_of(found: list[thinning.Curve]) -> tuple[thinning.Curve, np.ndarray, int] | None:
    """Mean curve and standard deviation of curves over the same steps, as far as all reach."""
    if len(found) < 2:
        return None
    length = min(len(curve.steps) for curve in found)
    steps = found[0].steps[:length]
    if not all(np.array_equal(curve.steps[:length], steps) for curve in found):
        return None
    values = np.stack([curve.values[:length] for curve in found])
    hours = np.stack([curve.hours[:length] for curve in found]).mean(axis=0)
    mean = thinning.Curve(steps, hours, values.mean(axis=0), found[0].lines)
    return mean, values.std(axis=0, ddof=1), len(found)


def scatter_charts(report: Report) -> list[dict[str, Any]]:
    """Throughput and memory against model size; quality against throughput, with frontier."""
    if len(report.records) < 2:
        return []
    by_key = {column.key: column for column in report.columns}
    size, speed = by_key["parameters"], by_key["images_per_second_per_device"]
    charts = [
        _scatter(report, size, by_key[key], title)
        for key, title in (
            ("images_per_second_per_device", "Throughput against model size"),
            ("peak_device_bytes", "Device memory against model size"),
            ("peak_host_bytes", "Host memory against model size"),
        )
    ]
    for column in report.columns:
        if column.protocol and column.better and figure_protocols.is_headline(column.metric):
            title = f"{column.heading} against throughput"
            charts.append(_scatter(report, speed, column, title, frontier=True))
    return [chart for chart in charts if len(chart["points"]) > 1]


def _scatter(
    report: Report, x: Column, y: Column, title: str, *, frontier: bool = False
) -> dict[str, Any]:
    table = report.tables["comparison"].set_index("run")
    styles = palette.styles(report.records)
    base = _first_with(report, table, x, y)
    names = _point_names(report)
    points = []
    for record in report.records:
        value_x, value_y = table.at[record.label, x.key], table.at[record.label, y.key]
        if np.isnan(_number(value_x)) or np.isnan(_number(value_y)):
            continue
        why = dict.fromkeys(
            reason for c in (x, y) for reason in comparability.reasons(record, base or record, c)
        )
        points.append({
            "name": record.label, "text": names[record.label],
            "colour": styles[record.label][0], "x": _number(value_x),
            "y": _number(value_y), "shown_x": number_formats.text(value_x, x.kind),
            "shown_y": number_formats.text(value_y, y.kind), "apart": "; ".join(why),
        })  # fmt: skip
    alike: list[Any] = [(p["x"], p["y"]) for p in points if not p["apart"]]
    return {
        "kind": "scatter", "key": f"{y.key} over {x.key}", "title": title, "points": points,
        "x": x.heading, "y": y.heading, "x_kind": x.kind, "y_kind": y.kind,
        "from_zero": not frontier,
        "names": len(points) <= _LEGEND_UP_TO,
        "frontier": efficient(alike, y.better) if frontier else [],
        "note": f"Grey: not like for like with {base.label} (hover for the reason)."
        if base and any(p["apart"] for p in points) else "",
    }  # fmt: skip


def _point_names(report: Report) -> dict[str, str]:
    """What is written beside each point: runs that differ by seed alone share one name."""
    names = {record.label: record.label for record in report.records}
    for group in report.seed_groups:
        first, *others = (record.label for record in group)
        names[first] = f"{group[0].config.get('name', '')} ({counted(len(group), 'seed')})"
        names.update(dict.fromkeys(others, ""))
    return names


def _first_with(report: Report, table: Any, x: Column, y: Column) -> Record | None:
    """The reference, or the first run that has both figures if it has not."""
    for record in (report.reference, *report.records):
        if not any(np.isnan(_number(table.at[record.label, c.key])) for c in (x, y)):
            return record
    return None


def efficient(points: list[tuple[float, float]], better: int) -> list[tuple[float, float]]:
    """The points that none is as fast as and better than: ascending x, more x is better.

    `better`: +1 if more y is better, -1 if less is.
    """
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda p: (-p[0], -better * p[1])):
        if not kept or better * y > better * kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def rounded(values: np.ndarray) -> list[float | None]:
    """JSON numbers of six significant digits (a picture shows fewer); None for NaN."""
    return [None if np.isnan(v) else _short(float(f"{v:.6g}")) for v in values]


def _short(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _number(value: Any) -> float:
    return float("nan") if value is None or value is comparison_tables.pd.NA else float(value)

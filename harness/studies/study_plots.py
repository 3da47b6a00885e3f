"""A study's pictures: quality against compute, and curves over steps with the seeds' band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.studies import study_table
from harness.studies.study_figures import Figures
from harness.studies.study_table import Row
from reports.output import markdown_plots, palette, thinning
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables import flops

_POINTS = 300
_FEW = 12  # lines that a legend can name


@dataclass(frozen=True)
class Band:
    """Ascending `steps`; the mean over seeds, the lowest seed and the highest at each."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pictures(found: Figures, rows: list[Row]) -> dict[str, tuple[str, bytes]]:
    """Title -> (file name, PNG)."""
    made = {}
    headlines = [f for f in found.figures if f.digest and figure_protocols.is_headline(f.metric)]
    for number, figure in enumerate(headlines, 1):
        name = f"compute-{number:02d}-{figure.metric}.png"
        made[f"{figure.heading} against compute"] = (name, _against_compute(found, rows, figure))
    loss = _over_steps(found, "Training loss", _training_loss)
    if loss is not None:
        made["Training loss by step"] = ("loss.png", loss)
    for number, figure in enumerate(headlines, 1):
        def curve(record: Record, figure=figure) -> dict[float, float]:
            drawn = thinning.evaluations(record, figure.metric, figure.digest)
            return dict(zip(drawn.steps, drawn.values, strict=True)) if drawn else {}

        drawn = _over_steps(found, figure.heading, curve)
        if drawn is not None:
            made[f"{figure.heading} by step"] = (f"steps-{number:02d}-{figure.metric}.png", drawn)
    return made


def _training_loss(record: Record) -> dict[float, float]:
    return {s: v for s, v in zip(record.column("step"), record.column("loss"), strict=True)
            if np.isfinite(v)}


def band(series: list[dict[float, float]]) -> Band | None:
    """The steps that all seeds logged, neighbours averaged to what a picture shows; None of one."""
    common = sorted(set.intersection(*map(set, series))) if series else []
    if len(common) < 2:
        return None
    values = np.array([[one[step] for step in common] for one in series])
    parts = np.array_split(np.arange(len(common)), min(len(common), _POINTS))
    steps = np.array([np.mean([common[i] for i in part]) for part in parts])
    means = np.stack([values[:, part].mean(axis=1) for part in parts], axis=1)
    return Band(steps, means.mean(axis=0), means.min(axis=0), means.max(axis=0))


def _over_steps(
    found: Figures, title: str, series_of: Callable[[Record], dict[float, float]]
) -> bytes | None:
    axes, drawn = markdown_plots.blank(f"{title}: mean of the seeds, lowest to highest"), 0
    for number, (place, cells) in enumerate(found.groups.items()):
        series = [one for cell in cells if cell.record and (one := series_of(cell.record))]
        if (curve := band(series)) is None:
            continue
        colour = palette.COLOURS[number % len(palette.COLOURS)]
        axes.plot(curve.steps, curve.mean, color=colour, linewidth=1.5,
                  marker="o" if len(curve.steps) < 20 else None, markersize=4,
                  label=study_table.label(found, place))
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        drawn += 1
    if drawn and drawn <= _FEW:
        axes.legend(fontsize=8, frameon=False)
    return markdown_plots.png(axes) if drawn else None


def _against_compute(found: Figures, rows: list[Row], figure) -> bytes:
    from matplotlib.ticker import EngFormatter

    axes = markdown_plots.blank(f"{figure.heading}: mean and interval over seeds")
    axes.set_xlabel("floating-point operations of training", fontsize=9)
    for number, row in enumerate(rows):
        known = next(entry.summary for entry in row.entries if entry.figure == figure)
        if known is None:
            continue
        bounds = [[0 if np.isnan(known.low) else known.mean - known.low],
                  [0 if np.isnan(known.high) else known.high - known.mean]]
        axes.errorbar(
            [compute(found, row.axes)], [known.mean], yerr=bounds, marker="o", capsize=3,
            color=palette.COLOURS[number % len(palette.COLOURS)], linestyle="none",
            label=study_table.label(found, row.axes),
        )
    spent = [compute(found, row.axes) for row in rows]
    if max(spent) > 8 * min(spent):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    if len(rows) <= _FEW:
        axes.legend(fontsize=8, frameon=False)
    return markdown_plots.png(axes)


def compute(found: Figures, place: tuple[str, ...]) -> float:
    """Floating-point operations of a cell's training (reports.tables.flops)."""
    axes = found.groups[place][0].cell.axes
    config = found.study.config(axes)
    images = config.train.global_batch_size * found.study.last_step(axes)
    return images * flops.training_flops(config.model.model_dump())

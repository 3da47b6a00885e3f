"""Pictures for the Markdown report (matplotlib, PNG)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from reports.output import palette, thinning
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables.columns import Column

_FEW = 12  # runs that a legend can name
_MATPLOTLIB_DASH = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def over_steps(records: list[Record], columns: list[Column]) -> dict[str, bytes]:
    """File name -> PNG: the loss, then one picture per quality metric and protocol."""
    points = thinning.points_each(len(records))
    pictures = {}
    loss = {r.label: thinning.training(r, "loss", points) for r in records}
    if any(loss.values()):
        pictures["loss.png"] = _picture(records, loss, "Training loss", marked=False)
    for number, column in enumerate(_headlines(columns), 1):
        digest = column.protocol.digest if column.protocol else ""
        found = {r.label: thinning.evaluations(r, column.metric, digest) for r in records}
        # A number keeps names apart that differ in a digest alone.
        name = f"quality-{number:02d}-{column.metric}.png"
        pictures[name] = _picture(records, found, column.heading, marked=True)
    return pictures


def _headlines(columns: list[Column]) -> list[Column]:
    return [c for c in columns if c.protocol and figure_protocols.is_headline(c.metric)]


def _picture(
    records: list[Record], found: dict[str, thinning.Curve | None], title: str, *, marked: bool
) -> bytes:
    axes = blank(title)
    drawn = {label: curve for label, curve in found.items() if curve is not None}
    _draw(axes, drawn, palette.styles(records), marked)
    positive = np.concatenate([curve.values[curve.values > 0] for curve in drawn.values()])
    # Losses and distances fall by factors; shares do not.
    falls = len(positive) and positive.max() > 8 * positive.min()
    if falls and not title.startswith(_shares()):
        axes.set_yscale("log")
    if len(records) <= _FEW:
        axes.legend(fontsize=8, frameon=False)
    return png(axes)


def blank(title: str) -> Any:
    """Axes to draw something over steps on."""
    # The object interface: pyplot would keep global state and pick a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.13, 0.89, 0.77))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def png(axes: Any) -> bytes:
    """The picture that `blank` began."""
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Any, drawn: dict[str, thinning.Curve], styles: dict, marked: bool) -> None:
    if len(drawn) > _FEW:  # one artist for all: hundreds of lines take seconds otherwise
        from matplotlib.collections import LineCollection

        lines = [np.column_stack([curve.steps, curve.values]) for curve in drawn.values()]
        colours = [styles[label][0] for label in drawn]
        axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.8, alpha=0.7))
        axes.autoscale_view()
        return
    for label, curve in drawn.items():
        colour, dash = styles[label]
        axes.plot(
            curve.steps, curve.values, _MATPLOTLIB_DASH[dash], color=colour, label=label,
            marker="o" if marked else None, markersize=4, linewidth=1.5,
        )


def _shares() -> tuple[str, ...]:
    return tuple(figure_protocols.heading(metric) for metric in figure_protocols.SHARES)

"""The page of a sweep: what was chosen, the front of quality against cost, every point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reports.output import image_rows, markdown_plots, palette, short_page
from reports.output.short_page import Section
from reports.reading import figure_protocols

_FEW_COSTS = 12
_HEADS = ("point", "network calls an image", "", "behind the best", "interval (90 %)")


def files(document: dict[str, Any], images: Mapping[int, np.ndarray]) -> dict[str, bytes]:
    """File name -> content, as `reports.build.write` takes it, for `eval.evaluation.sweep`'s.

    `images`: index of a point -> its images uint8 [k, H, W, 3] of `document["prompts"]`.
    """
    points, metric = document["points"], figure_protocols.heading(document["metric"])
    finished = [i for i, point in enumerate(points) if "halves" in point]
    heads = [head or metric for head in _HEADS]
    order = sorted(finished, key=lambda i: points[i]["distance"])
    sections = [
        Section("Quality against cost", _front_text(), heads,
                [_row(document, i) for i in document["front"]],
                ("front.png", _draw(document, finished, metric))),
        Section("Every point", _error_text(), heads, [_row(document, i) for i in order]),
    ]
    if dropped := [point for i, point in enumerate(points) if i not in finished]:
        sections.append(Section(
            "Dropped early", "Not drawn to the end, so that the figures compare with none above.",
            ("point", "network calls an image", metric, "after samples"),
            [(label(document, p), str(p["network_calls"]), f"{p['distance']:.4g}",
              f"{p['dropped_after']:,}") for p in dropped],
        ))  # fmt: skip
    if images:
        rows = {label(document, points[i]): images[i] for i in images}
        sections.append(image_rows.section(document["prompts"], rows))
    return short_page.files("sweep", f"Sweep of {document['run']}", lead(document), sections)


def lead(document: dict[str, Any]) -> str:
    """What was chosen, with both of its numbers, in two sentences."""
    chosen = document["points"][document["chosen"]]
    on, other = chosen["halves"]
    return (
        f"Chosen on one half of the captions: {label(document, chosen)}, "
        f"{figure_protocols.heading(document['metric'])} {on:.4g} there and {other:.4g} on the "
        f"other half, which had no part in the choice. {len(document['points'])} points of "
        f"{document['n_samples']:,} samples each."
    )


def label(document: dict[str, Any], point: dict[str, Any]) -> str:
    """A point by what the sweep goes over, as 'guidance 1.5, steps 25'."""
    said = [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in point["settings"].items()]
    if len({p["step"] for p in document["points"]}) > 1 or not said:
        said.append(f"checkpoint {point['step']}")
    return ", ".join(said)


def _row(document: dict[str, Any], i: int) -> tuple[str, ...]:
    point = document["points"][i]
    behind, metric = point["behind_the_best"], document["metric"]
    interval = point["metrics"].get(f"{metric}_interval")
    apart = f"{behind['difference']:.3g} +- {behind['standard_error']:.2g}"
    return (
        label(document, point) + " (chosen)" * (i == document["chosen"]),
        str(point["network_calls"]), f"{point['distance']:.4g}",
        "the best" if i == document["best"] else apart,
        "{:.4g} to {:.4g}".format(*interval) if interval else "",
    )


def _draw(document: dict[str, Any], finished: list[int], metric: str) -> bytes:
    axes = markdown_plots.blank(f"{metric} against network calls an image")
    axes.set_xlabel("network calls an image", fontsize=9)
    points = document["points"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for i in finished:
        groups.setdefault(str(points[i]["settings"].get("sampler", "")), []).append(points[i])
    for number, (name, some) in enumerate(groups.items()):
        axes.errorbar(
            [p["network_calls"] for p in some], [p["distance"] for p in some],
            [p["behind_the_best"]["standard_error"] for p in some], fmt="o", markersize=4,
            linewidth=1, label=name, color=palette.COLOURS[number % len(palette.COLOURS)],
        )
    front = [points[i] for i in document["front"]]
    axes.plot([p["network_calls"] for p in front], [p["distance"] for p in front],
              color=palette.OTHER, linewidth=1.2, zorder=0)
    calls = sorted({points[i]["network_calls"] for i in finished})
    axes.set_xscale("log")
    if len(calls) <= _FEW_COSTS:  # as they are, not as powers of ten
        axes.set_xticks(calls, labels=list(map(str, calls)))
        axes.minorticks_off()
    if len(groups) > 1:
        axes.legend(fontsize=8, frameon=False)
    return markdown_plots.png(axes)


def _front_text() -> str:
    return (
        "No point is as cheap as one of these and better. Bars: one standard error of the "
        "difference to the best point, which the shared captions and noise make small."
    )


def _error_text() -> str:
    return (
        "Behind the best: the difference of two distances over the same captions and noise, with "
        "its standard error. The interval is of one distance alone, over fresh samples."
    )

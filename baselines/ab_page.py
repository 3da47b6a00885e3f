"""What an A/B found, for people and programs: lines, one JSON document, one page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from baselines import ab_compare, check_table
from baselines.ab_compare import Result
from baselines.verdicts import Verdict
from harness import files as on_disk
from harness.base import locked_stacks
from harness.base.wording import aligned
from reports.output import markdown_plots, palette, short_page
from reports.output.short_page import Section

NAMES = {"inconclusive": "cannot say"}  # verdicts that have another name here
_HEADS = ("metric", "A", "B", "change", "verdict", "why", "rounds for an answer")


def document(result: Result) -> dict[str, Any]:
    """The result as JSON values; what is not finite is null."""
    step, apart = result.drift.largest
    return {
        "schema": ab_compare.SCHEMA,
        "outcome": _name(result.outcome),
        "step": result.report.baseline.step,
        "rounds": len(result.runs["a"]),
        "sides": {
            side: {
                "stack": locked_stacks.label(found[0].info["fingerprint"]),
                "runs": [str(run.directory) for run in found],
                "repeats": result.repeats[side],
            }
            for side, found in result.runs.items()
        },
        "verdicts": [
            {**one, "verdict": _name(one["verdict"])}
            for one in check_table.document(result.report)["verdicts"]
        ],
        "drift": {
            "compared": len(result.drift.steps),
            "first_difference": result.drift.first,
            "largest": {"step": step, "relative": on_disk.finite(apart)},
            "steps": [[step, on_disk.finite(apart)] for step, apart in result.drift.steps],
        },
        "differs": {key: list(values) for key, values in result.differs.items()},
    }


def text(result: Result) -> str:
    """A line for each metric, then the losses."""
    rows = [_row(verdict) for verdict in result.report.verdicts]
    # What is inconclusive has a reason, which its rounds stand behind.
    lines = aligned([(*row[:5], row[5] + (f"; {row[6]} rounds" if row[6] else "")) for row in rows])
    return "\n".join([*lines, losses(result), f"B is, against A: {_name(result.outcome)}"])


def losses(result: Result) -> str:
    """Where the losses part, and whether each side repeats itself, in words."""
    drift = result.drift
    if drift.first is None:
        said = f"The losses of all {len(drift.steps)} logged steps have the same bits."
    else:
        step, apart = drift.largest
        size = f"{apart:.3g} relative" if math.isfinite(apart) else "not finite"
        said = (f"The bits of the losses differ first at step {drift.first}; the largest "
                f"difference is {size}, at step {step}, of {len(drift.steps)} logged steps.")
    strange = [side.upper() for side, repeats in result.repeats.items() if not repeats]
    return said + "".join(f" The rounds of {side} do not repeat each other." for side in strange)


def files(result: Result) -> dict[str, bytes]:
    """The page, as `reports.build.write` takes it: its HTML comes last."""
    first = result.runs["a"][0]
    config = first.info["config"]["name"]
    sides = [
        f"{side.upper()}: {locked_stacks.label(found[0].info['fingerprint'])}"
        for side, found in result.runs.items()
    ]
    lead = (
        f"B is, against A: {_name(result.outcome)}. {'; '.join(sides)}. {len(result.runs['a'])} "
        f"runs of each in turns, seed {first.seed}, to step {result.report.baseline.step}, on "
        f"{first.info['fingerprint'].get('device')}."
    )
    same = "" if result.differs else "Nothing that is recorded: the two sides are one."
    differs = [(key, *map(str, values)) for key, values in result.differs.items()]
    return short_page.files("ab", f"A/B of {config}", lead, [
        Section("Verdicts", "", _HEADS, [_row(one) for one in result.report.verdicts]),
        Section("Loss by step", losses(result), picture=("loss-drift.png", _draw(result))),
        Section("What differs", same, ("", "A", "B"), differs),
    ])  # fmt: skip


def write(result: Result, out: Path) -> Path:
    """Write the page into `out`; the path of its HTML."""
    from reports import build

    return build.write(files(result), out)


def _row(verdict: Verdict) -> tuple[str, ...]:
    both = (verdict.baseline, verdict.value)
    figures = [check_table.figure(verdict.metric, one) for one in both]
    needed = "" if verdict.needed is None else f"about {verdict.needed}"
    return (verdict.metric, *figures, check_table.change(verdict), _name(verdict.verdict),
            verdict.reason, needed)


def _draw(result: Result) -> bytes:
    """The relative difference of the losses by step; steps of the same bits are at the bottom."""
    axes = markdown_plots.blank("|loss of B - loss of A| / |loss of A|")
    steps, gaps = zip(*result.drift.steps, strict=True)
    apart = [one if math.isfinite(one) else math.nan for one in gaps]
    axes.plot(steps, apart, color=palette.COLOURS[0], marker="o", markersize=3, linewidth=1.2)
    if any(one > 0 for one in apart):
        axes.set_yscale("symlog", linthresh=min(one for one in apart if one > 0))
    axes.set_ylim(bottom=0)
    return markdown_plots.png(axes)


def _name(verdict: str) -> str:
    return NAMES.get(verdict, verdict)

"""One cell of a bundle run again here: the same bits, within the interval, or outside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from baselines.metrics import MACHINE_METRICS
from harness import files, runs
from harness.base.errors import DataError, UsageError
from harness.runs import checkpoints
from harness.studies import (
    bundle_unpack,
    one_cell,
    study_directory,
    study_figures,
    study_file,
    study_statistics,
)
from harness.studies.study_figures import CellFigures, Figure, Figures
from harness.studies.study_file import Study
from harness.studies.study_statistics import Summary

SCHEMA = 1
SAME, WITHIN, OUTSIDE, UNKNOWN = "same bits", "within the interval", "outside it", "cannot say"


def reproduce(bundle: Path, cell: str, data: Path, out: Path) -> dict[str, Any]:
    """Run `cell` of `bundle` again in the study's directory `out`, and compare.

    JSON values: the verdict, whether losses and weights have the same bits, and each figure with
    the interval that one more seed falls into. UsageError for a cell that the bundle has not.
    """
    with bundle_unpack.opened(bundle) as opened:
        theirs = study_figures.read(opened.directory)
        there = _cell(theirs, cell, bundle)
        study = _here(theirs.study)
        (asked,) = (one for one in study.cells() if one.id == cell)
        study_directory.begin(out, study)
        ended = one_cell.work(study, out, asked, data=data)
        if ended.code:
            raise ended.error()
        ours = _cell(study_figures.read(out), cell, out)
        return _compare(theirs, there, ours)


def _here(study: Study) -> Study:
    """The same study by this interpreter: what a bundle names may be anything."""
    values = {**study.resolved(), "stacks": dict.fromkeys(study.stacks, "")}
    return study_file.from_values(values, source="the bundle")


def _cell(found: Figures, name: str, where: Path) -> CellFigures:
    for one in found.cells:
        if one.cell.id == name:
            if one.missing:
                raise UsageError(f"{where}: {name} is missing: {one.missing}",
                                 remedy="choose a cell that is done")
            return one
    known = ", ".join(one.cell.id for one in found.cells[:10])
    raise UsageError(f"{where} has no cell {name!r}", remedy=f"choose with --cell: {known}")


def _compare(theirs: Figures, there: CellFigures, here: CellFigures) -> dict[str, Any]:
    seeds = [one for one in theirs.groups[study_figures.axes_of(there.cell.axes)]
             if not one.missing]
    kept = [figure for figure in theirs.figures
            if figure.metric not in MACHINE_METRICS and figure.key in there.values]
    rows = [_figure(figure, seeds, there, here, len(kept)) for figure in kept]
    bits = {"loss": _losses(there) == _losses(here), "weights": _weights(there) == _weights(here)}
    same = all(bits.values()) and all(row["verdict"] == SAME for row in rows)
    said = {row["verdict"] for row in rows}
    verdict = next((one for one in (OUTSIDE, UNKNOWN, WITHIN) if one in said), WITHIN)
    stack = runs.stack_differences(_run(there), _run(here).info["fingerprint"])
    read = [(_run(one).info.get("data") or {}).get("sampled_digest") for one in (there, here)]
    stack |= {"data": (read[0], read[1])} if read[0] != read[1] else {}
    return {
        "schema": SCHEMA, "cell": there.cell.id, "verdict": SAME if same else verdict,
        "same_bits": bits, "figures": rows, "seeds": len(seeds),
        "stack": {key: list(values) for key, values in stack.items()},
    }  # fmt: skip


def _figure(
    figure: Figure, seeds: list[CellFigures], there: CellFigures, here: CellFigures, figures: int
) -> dict[str, Any]:
    """A figure beside the bundle's, and the interval of one more seed among all these figures."""
    values = [one.values[figure.key] for one in seeds if figure.key in one.values]
    around = study_statistics.prediction(values, figures=figures)
    found = here.values.get(figure.key)
    return {
        "figure": figure.heading, "there": there.values[figure.key], "here": found,
        "low": files.finite(around.low), "high": files.finite(around.high),
        "verdict": _verdict(there.values[figure.key], found, around),
    }  # fmt: skip


def _verdict(there: float, here: float | None, around: Summary) -> str:
    if here == there:
        return SAME
    if here is None or math.isnan(around.low):
        return UNKNOWN
    return WITHIN if around.low <= here <= around.high else OUTSIDE


def _run(one: CellFigures) -> runs.Run:
    if one.record is None:
        raise DataError(f"{one.cell.id} has no run")
    return one.record.run


def _losses(one: CellFigures) -> list[tuple[int, Any]]:
    return [(line["step"], line.get("loss_hex")) for line in _run(one).metrics()]


def _weights(one: CellFigures) -> list[Any]:
    """Digests of the model and the EMA of the last checkpoint."""
    run = _run(one)
    manifest = checkpoints.read_manifest(run.checkpoint(max(run.checkpoint_steps())))
    return [manifest.get(key) for key in ("weights_digest", "ema_digest")]


def text(report: dict[str, Any]) -> str:
    """The report in words, for a terminal."""
    lines = []
    for row in report["figures"]:
        here = "none by this protocol" if row["here"] is None else f"{row['here']:.6g}"
        around = "" if row["low"] is None else (
            f", one more seed: {row['low']:.4g} to {row['high']:.4g}")
        lines.append(f"  {row['figure']}: {row['there']:.6g} there, {here} here"
                     f"{around}: {row['verdict']}")
    bits = [f"{name} {'the same' if same else 'differ'}"
            for name, same in report["same_bits"].items()]
    lines.append(f"  bits: {', '.join(bits)}")
    lines += [f"  stack: {key} was {there!r}, is {here!r}"
              for key, (there, here) in report["stack"].items()]
    return "\n".join([f"{report['cell']}: {report['verdict']}", *lines])

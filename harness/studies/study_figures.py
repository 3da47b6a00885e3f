"""What the cells of a study came to: a value for each figure, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from baselines import metrics
from baselines.metrics import MACHINE_KEYS, MACHINE_METRICS
from harness import configs, runs
from harness.base import kernel_choice
from harness.base.errors import DataError
from harness.studies import study_directory, study_file
from harness.studies.study_file import Study, StudyCell
from reports.reading import figure_protocols, run_records
from reports.reading.run_records import Record

FROM_LOGS = ("throughput", "host_memory", "device_memory", "train_loss")
_NAMES = {
    "throughput": "Throughput", "host_memory": "Host memory", "device_memory": "Device memory",
    "train_loss": "Training loss",
}  # fmt: skip
# What has to agree for speed and memory to be put together; kernels are an axis of a study.
_MACHINE = [key for key in MACHINE_KEYS if key not in kernel_choice.CHOICES]


@dataclass(frozen=True)
class Figure:
    """A column: a metric, and for one of quality how it was made (label and digest, or '')."""

    metric: str
    protocol: str = ""
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.metric, self.digest

    @property
    def name(self) -> str:
        return _NAMES.get(self.metric) or figure_protocols.heading(self.metric)

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.protocol})" if self.protocol else self.name

    @property
    def kind(self) -> str:
        """How its values are written: bytes, share, speed, loss or number."""
        if self.metric.endswith("_memory"):
            return "bytes"
        if self.metric in figure_protocols.SHARES:
            return "share"
        if self.metric == "throughput":
            return "speed"
        return "loss" if self.metric.endswith("loss") else "number"


@dataclass(frozen=True)
class CellFigures:
    """One cell. `values`: `Figure.key` -> value; `missing`: why there are none, or ''.

    `odd`: figures that are there and are no finite number. `machine`: what its speed and memory
    depend on.
    """

    cell: StudyCell
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    missing: str = ""
    odd: tuple[tuple[str, str], ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    record: Record | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Figures:
    """All cells of a study, in its order, and the figures that any of them has."""

    study: Study
    cells: tuple[CellFigures, ...]
    figures: tuple[Figure, ...]

    @cached_property
    def groups(self) -> dict[tuple[str, ...], list[CellFigures]]:
        """Cells that differ in the seed alone, by the values of their axes."""
        found: dict[tuple[str, ...], list[CellFigures]] = {}
        for one in self.cells:
            found.setdefault(axes_of(one.cell.axes), []).append(one)
        return found


def axes_of(axes: dict[str, str]) -> tuple[str, ...]:
    """A cell's place along the axes, in their order."""
    return tuple(axes[axis] for axis in study_file.AXES)


def read(directory: Path) -> Figures:
    """What every cell of the study in `directory` has come to by its last step.

    Quality is that of the last step that the study evaluates. DataError if a cell's run is broken,
    or not what the study says it is.
    """
    study = study_directory.load(directory)
    found = {cell.id: _run(study, cell, directory) for cell in study.cells()}
    there = {key: run for key, run in found.items() if isinstance(run, runs.Run)}
    records = dict(zip(there, run_records.read(there.values()), strict=True)) if there else {}
    evaluated = {one.id: max(study.evaluated_steps(one.axes), default=0) for one in study.cells()}
    ends = {name: [f for f in record.figures if f.step == evaluated[name]]
            for name, record in records.items()}
    labels = figure_protocols.labels(f.protocol for some in ends.values() for f in some)
    cells = tuple(
        _figures(study, cell, records[cell.id], ends[cell.id]) if cell.id in records
        else CellFigures(cell, missing=str(found[cell.id]))
        for cell in study.cells()
    )
    return Figures(study, cells, tuple(_columns(cells, labels)))


def _run(study: Study, cell: StudyCell, directory: Path) -> runs.Run | str:
    """The cell's run if it has come to its last step, else why it is missing."""
    where = study_directory.run_directory(directory, cell.id)
    last = study.last_step(cell.axes)
    if not (where / "run.json").is_file():
        return _reason(directory, cell) or "not run"
    run = runs.load(where)
    digest = configs.digest(study.config(cell.axes))
    if (run.info["digest"], run.seed) != (digest, cell.seed):
        raise DataError(
            f"{where} is a run of another config or seed than the study's cell",
            remedy="move it away and run the study again",
        )
    step = max(run.checkpoint_steps(), default=0)
    return run if step >= last else _reason(directory, cell) or f"at step {step:,} of {last:,}"


def _reason(directory: Path, cell: StudyCell) -> str:
    """What the runner noted of a cell that failed."""
    state = study_directory.state(directory, cell.id)
    return f"failed: {' '.join(state.reason.split())[:200]}" if state.reason else ""


def _figures(
    study: Study, cell: StudyCell, record: Record, found: Sequence[run_records.Figure]
) -> CellFigures:
    logged = metrics.training_values(record.run, study.last_step(cell.axes))
    values = {(metric, ""): one.value for metric, one in logged.items()}
    values |= {(one.metric, one.protocol.digest): one.value for one in found}
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    machine = {key: record.fingerprint.get(key) for key in _MACHINE}
    return CellFigures(cell, finite, "", tuple(values.keys() - finite.keys()), machine, record)


def _columns(cells: Sequence[CellFigures], labels: dict[str, str]) -> list[Figure]:
    """What was logged first, then quality by protocol."""
    keys = dict.fromkeys(key for one in cells for key in (*one.values, *one.odd))
    logged = [Figure(metric) for metric in FROM_LOGS if (metric, "") in keys]
    quality = sorted(
        (labels[digest], metric, digest) for metric, digest in keys if metric not in FROM_LOGS
    )
    return logged + [Figure(metric, label, digest) for label, metric, digest in quality]


def machine_differs(cells: Sequence[CellFigures], figure: Figure) -> str:
    """The first key of the machine that `cells` do not agree in, where `figure` depends on it."""
    if figure.metric not in MACHINE_METRICS or not cells:
        return ""
    return next((key for key in _MACHINE
                 if any(one.machine.get(key) != cells[0].machine.get(key) for one in cells)), "")


def missing(found: Figures) -> list[tuple[str, str]]:
    """(cell, what is missing of it and why), all of them."""
    said = []
    for one in found.cells:
        if one.missing:
            said.append((one.cell.id, one.missing))
            continue
        lacking = [figure for figure in found.figures if figure.key not in one.values]
        for what, figures in (
            ("not a finite number", [f for f in lacking if f.key in one.odd]),
            ("not measured", [f for f in lacking if f.key not in one.odd]),
        ):
            if figures:
                said.append((one.cell.id, f"{what}: {', '.join(f.heading for f in figures)}"))
    return said

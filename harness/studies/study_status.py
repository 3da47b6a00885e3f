"""Where each cell of a study has come to, read in a moment: only those at work are looked into."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness import files, runs
from harness.runs.run_directory import Run
from harness.studies import study_directory as on_disk
from harness.studies.study_directory import State
from harness.studies.study_file import Study, StudyCell

STATES = ("waiting", "queued", "running", "stopped", "failed", "done")
_FRESH = 900.0  # seconds since the last line of a cell on another machine, to be called running


@dataclass(frozen=True)
class Shown:
    """One cell. `note`: of a failed one why, of a running one what it does beside training.

    `seconds_left` of training, by its own speed; None where that is not known.
    """

    id: str
    axes: dict[str, str]
    seed: int
    state: str
    step: int
    steps: int
    seconds_left: float | None
    attempts: int
    note: str


def look(
    study: Study, directory: Path, queue: Mapping[str, bool] = MappingProxyType({})
) -> list[Shown]:
    """Every cell in the study's order. `queue`: those that a scheduler has -> whether they run."""
    return [_look(study, directory, one, queue.get(one.id)) for one in study.cells()]


def _look(study: Study, directory: Path, one: StudyCell, runs_there: bool | None) -> Shown:
    known = on_disk.state(directory, one.id)
    steps = study.last_step(one.axes)
    if known.done or not known.attempts:
        waiting = "waiting" if runs_there is None else "running" if runs_there else "queued"
        state, step = ("done", steps) if known.done else (waiting, 0)
        return Shown(one.id, one.axes, one.seed, state, step, steps, None, known.attempts, "")
    run = Run(on_disk.run_directory(directory, one.id), {})
    step = (runs.last_line(run.metrics_file) or {"step": 0})["step"]
    state = "queued" if runs_there is False else _state(known, run, runs_there)
    left, note = None, known.reason
    if state == "running":
        left = _seconds_left(study, one, run, steps - step)
        note = "evaluating" if step >= steps else ""
    return Shown(one.id, one.axes, one.seed, state, step, steps, left, known.attempts, note)


def _state(known: State, run: Run, runs_there: bool | None) -> str:
    if known.code is not None:
        return "stopped" if known.code == 75 else "failed"
    alive = runs_there or known.alive()
    if alive is None:  # on another machine
        alive = time.time() - run.touched() < _FRESH
    return "running" if alive else "stopped"


def _seconds_left(study: Study, one: StudyCell, run: Run, steps: int) -> float | None:
    speed = (runs.last_line(run.timing_file) or {}).get("images_per_second")
    if not files.is_number(speed) or speed <= 0:
        return None
    return steps * study.config(one.axes).train.global_batch_size / speed


def counts(found: Sequence[Shown]) -> dict[str, int]:
    """How many cells are in each state, in the order of STATES, those of none left out."""
    number = Counter(one.state for one in found)
    return {state: number[state] for state in STATES if number[state]}

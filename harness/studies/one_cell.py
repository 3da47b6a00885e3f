"""One cell of a study from its first step to its last evaluation, with its retries."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from harness import runs
from harness.base.errors import HarnessError, Interrupted
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell, Ended
from harness.runs.run_directory import Run
from harness.studies import study_directory as on_disk
from harness.studies.study_directory import State
from harness.studies.study_file import Study, StudyCell


def cell(study: Study, directory: Path, one: StudyCell, data: Path | None = None) -> Cell:
    """`one` as it is run: to its last step, with its stack, threads and workers."""
    axes = one.axes
    arguments = cells.given(
        kernels=None if axes["kernels"] == "default" else axes["kernels"],
        nproc=study.nproc if study.nproc > 1 else None,
    )
    python = study.stacks[axes["stack"]]
    return Cell(
        str(on_disk.config_file(directory, axes["config"])),
        data or Path("data") / study.config(axes).data.dataset,
        on_disk.run_directory(directory, one.id),
        seed=one.seed, until=study.last_step(axes), overrides=study.variants[axes["variant"]],
        arguments=tuple(arguments),
        # Bits depend on it: the same for a cell however many others run beside it.
        environment={"OMP_NUM_THREADS": str(study.threads)},
        python=cells.interpreter(python) if python else sys.executable,
    )


def unevaluated(study: Study, one: StudyCell, run: Run) -> list[tuple[int, str]]:
    """(step, name in `study.protocols`) of the evaluations that have no result yet."""
    config = study.config(one.axes)
    return [
        (step, name) for step in study.evaluated_steps(one.axes)
        for name, choice in study.protocols.items()
        if not (run.evaluation(step, choice.of(config).name) / "result.json").is_file()
    ]


def is_done(study: Study, directory: Path, one: StudyCell) -> bool:
    """Whether its run is trained and evaluated as the study asks, by what is on disk."""
    place = on_disk.run_directory(directory, one.id)
    if not (place / "run.json").is_file() or not cells.done(cell(study, directory, one)):
        return False
    return not unevaluated(study, one, runs.load(place))


def work(
    study: Study, directory: Path, one: StudyCell, *, data: Path | None = None, retries: int = 0
) -> Ended:
    """Train and evaluate what is still to be done of a cell; how it ended, which is noted.

    What fails is tried `retries` times again, but a usage error. Interrupted if it was stopped, or
    is another process's.
    """
    # Of several machines the first one keeps it, and writes.
    leads = study.nnodes == 1 or os.environ.get("SLURM_NODEID", "0") == "0"

    def note(state: State) -> None:
        if leads:
            on_disk.note(directory, one.id, state)

    with on_disk.worked_on(directory, one.id) if leads else contextlib.nullcontext():
        for left in range(retries, -1, -1):
            attempts = on_disk.state(directory, one.id).attempts + 1
            note(State(attempts, process=on_disk.this_process()))
            try:
                ended = _once(study, directory, one, data)
            except BaseException as error:  # a signal, too, which is none of Python's Exceptions
                stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
                code = 75 if stopped else error.exit_code if isinstance(error, HarnessError) else 1
                reason = "stopped" if stopped else str(error)
                note(State(attempts, code, reason))
                raise
            reason = str(ended) if ended.code else ""
            note(State(attempts, ended.code, reason))
            if ended.code in (0, 2) or not left:
                break
        return ended


def _once(study: Study, directory: Path, one: StudyCell, data: Path | None) -> Ended:
    """To each step that is evaluated, and then evaluated: its checkpoint may not stay for long."""
    whole = cell(study, directory, one, data)
    config, evaluated = study.config(one.axes), study.evaluated_steps(one.axes)
    ended = Ended(str(whole.directory), 0, "")
    for step in sorted({*evaluated, study.last_step(one.axes)}):
        ended = cells.train(replace(whole, until=step))
        if ended.code:
            return ended
        run = runs.load(whole.directory) if step in evaluated else None
        for at, name in unevaluated(study, one, run) if run else ():
            if at == step:
                options = study.protocols[name].options(config)
                ended = cells.evaluate(whole, "--step", step, *options)
                if ended.code:
                    return ended
    return ended

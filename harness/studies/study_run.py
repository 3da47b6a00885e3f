"""A study's cells side by side on this machine; the same command goes on after any end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import runs
from harness.base import container_limits, paddle_env
from harness.base.errors import HarnessError, Interrupted, UsageError
from harness.base.progress import Progress, say
from harness.cells import run_cells as cells
from harness.cells import side_by_side
from harness.cells.side_by_side import Job
from harness.studies import adopted_runs, one_cell
from harness.studies import study_directory as on_disk
from harness.studies.study_directory import State
from harness.studies.study_file import Study, StudyCell


def prepare(
    study: Study, directory: Path, *, data: Path | None, adopt: Path | None
) -> list[StudyCell]:
    """Take over what was done elsewhere; the cells that are still to be run."""
    left = []
    for one in study.cells():
        one_cell.cell(study, directory, one)  # refuses an interpreter that is none
        if not one_cell.is_done(study, directory, one):
            left.append(one)
        elif not on_disk.state(directory, one.id).done:
            on_disk.note(directory, one.id, State(code=0))
    if adopt is not None and left:
        adopted_runs.adopt(study, directory, adopt, left)
        left = [one for one in left if not one_cell.is_done(study, directory, one)]
    for config in study.configs.values() if left else ():
        place = data or Path("data") / config.data.dataset
        if not place.is_dir():
            raise UsageError(f"there is no data in {place}", remedy="give --data DIR")
    return left


def run(
    study: Study, directory: Path, *, data: Path | None = None, jobs: int | None = None,
    devices: Sequence[int] = (), retries: int = 0, adopt: Path | None = None,
) -> None:
    """Run what is still to be run, `jobs` at a time; raises the error of a cell that fails, last.

    Interrupted if cells were stopped: all that they did is kept.
    """
    slots = places(study, jobs, devices)
    on_disk.begin(directory, study)  # which refuses another's place, before a lock is left there
    with runs.locked(directory):
        _run(study, directory, slots, data=data, retries=retries, adopt=adopt)


def places(study: Study, jobs: int | None, devices: Sequence[int]) -> list[dict[str, str]]:
    """The variables of each place where a cell runs; UsageError for more than there is room for.

    `devices` are shared out, `study.nproc` to a place; the processors are, `study.threads` to each
    process. Without `jobs`: as many as there is room for, but one on GPUs that are not named.
    """
    if study.nnodes > 1:
        raise UsageError(f"a cell of {study.name} is for {study.nnodes} machines",
                         remedy="give --executor slurm")
    each, cores = study.threads * study.nproc, int(container_limits.usable())
    room = max(1, cores // each)
    if each > cores:
        say(f"a cell has {each} threads, and there are {cores} processors: it will be slow")
    if devices:
        groups = [devices[at:at + study.nproc] for at in range(0, len(devices), study.nproc)]
        shares = [",".join(map(str, one)) for one in groups if len(one) == study.nproc]
        places = [{"CUDA_VISIBLE_DEVICES": one} for one in shares]
        room = min(room, len(places))
        if not places:
            raise UsageError(f"a cell takes {study.nproc} devices, and {len(devices)} are named")
    else:
        room = 1 if paddle_env.has_gpu_build() and jobs is None else room
        places = [{}] * room
    if jobs is not None and jobs > room:
        raise UsageError(
            f"{jobs} cells at a time of {each} threads each are more than {cores} processors"
            + (f" and {len(devices)} devices" if devices else "") + " have room for",
            remedy=f"give --jobs {room}",
        )
    return places[:jobs or room]


def _run(
    study: Study, directory: Path, slots: list[dict[str, str]], *, data: Path | None,
    retries: int, adopt: Path | None,
) -> None:
    left = prepare(study, directory, data=data, adopt=adopt)
    total, failed, stopped = len(study.cells()), [], 0
    asked = options(data, retries)
    work = [
        Job(one.id, command(directory, one.id, asked), on_disk.log_file(directory, one.id))
        for one in left
    ]
    with (
        Progress(total, study.name, start=total - len(left), unit="cells", early=True) as shown,
        contextlib.closing(side_by_side.run(work, slots, environment())) as every,
    ):
        for job, code in every:
            shown.advance()
            stopped += code == 75
            if code not in (0, 75):
                failed.append(settle(directory, job.name, code))
                shown.write(f"failed: {job.name}: {failed[-1].reason}")
    if failed:
        raise failure(failed, total, directory)
    if stopped:
        raise Interrupted(f"{stopped} of {total} cells were stopped",
                          remedy="run the same command again")


def settle(directory: Path, name: str, code: int) -> State:
    """The state of a cell whose process has failed, also where it could not note it itself."""
    found = on_disk.state(directory, name)
    if found.code in (None, 0, 75):
        said = on_disk.last_words(directory, name)
        found = State(found.attempts, code, f"its process ended with {code}: {said}")
        on_disk.note(directory, name, found)
    return found


def failure(failed: Sequence[State], total: int, directory: Path) -> HarnessError:
    """All that failed as one error, of the first one's kind."""
    kind = type(cells.Ended("", failed[0].code or 1, "").error())
    return kind(f"{len(failed)} of {total} cells failed, the first: {failed[0].reason}",
                remedy=f"see `harness study status {directory}`; the same command tries them again")


def options(data: Path | None, retries: int) -> list[str]:
    """What the command of each cell is given."""
    return cells.given(retries=retries, data=None if data is None else os.path.abspath(data))


def command(directory: Path, name: str, options: Sequence[str]) -> list[str]:
    """The command that runs one cell, whoever starts it."""
    return [sys.executable, "-m", "harness", "study", "cell", os.path.abspath(directory), name,
            *options]


def environment() -> dict[str, str]:
    """Ours, with this harness found first."""
    path = [str(cells.CHECKOUT or ""), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}

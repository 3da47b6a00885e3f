"""Cells that were done elsewhere, taken over by what they are: digest, seed, stack, settings."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness import configs, files, runs
from harness.base import locked_stacks
from harness.base.errors import HarnessError
from harness.base.progress import say
from harness.runs.run_directory import Run
from harness.studies import one_cell
from harness.studies import study_directory as on_disk
from harness.studies.study_file import Study, StudyCell

_ASK = ("import importlib.metadata as m, json; print(json.dumps({'package.' + n: m.version(n) for "
        "n in ('paddlepaddle', 'paddlepaddle-gpu') if any(m.distributions(name=n))}))")


def adopt(study: Study, directory: Path, elsewhere: Path, wanted: Sequence[StudyCell]) -> None:
    """Copy the runs below `elsewhere` that are what a cell of `wanted` asks for.

    Checkpoints, which never change, become hard links where they can. Why a run of the right
    config and seed is not taken is said.
    """
    by_run: dict[tuple[str, int], list[StudyCell]] = {}
    for one in wanted:
        key = configs.digest(study.config(one.axes)), one.seed
        by_run.setdefault(key, []).append(one)
    for run in _below(elsewhere, directory):
        for one in by_run.get((run.info["digest"], run.seed), []):
            place = on_disk.run_directory(directory, one.id)
            if (place / "run.json").exists():
                continue
            if why := _unfit(study, directory, one, run):
                say(f"{run.directory} is not taken as {one.id}: {why}")
                continue
            with files.staged(place) as temporary:
                shutil.copytree(run.directory, temporary, dirs_exist_ok=True, copy_function=_copy)
                (temporary / "lock").unlink(missing_ok=True)
            say(f"{run.directory} is taken as {one.id}")


def _below(elsewhere: Path, directory: Path) -> list[Run]:
    found = []
    for path, folders, names in os.walk(elsewhere):
        folders.sort()
        if os.path.abspath(path) == os.path.abspath(directory):
            folders.clear()
        elif "run.json" in names:
            folders.clear()
            try:
                found.append(runs.load(path))
            except HarnessError as error:
                say(f"not taken: {error}")
    return found


def _unfit(study: Study, directory: Path, one: StudyCell, run: Run) -> str:
    """Why this run is not the cell, whose config and seed it has; '' if it is."""
    stack = run.info["fingerprint"]
    last = study.last_step(one.axes)
    steps = run.checkpoint_steps()
    if not steps or steps[-1] != last:
        return f"it ends at step {steps[-1] if steps else 0}, not {last}"
    lost = [step for step, _ in one_cell.unevaluated(study, one, run) if step not in steps]
    if lost:
        return f"it has neither checkpoint nor figures of step {lost[0]}"
    asked: dict[str, object] = {
        "env.OMP_NUM_THREADS": str(study.threads), "world_size": study.nproc * study.nnodes,
    }
    if one.axes["kernels"] != "default":
        asked["kernels"] = one.axes["kernels"]
    for key, value in asked.items():
        if stack.get(key) != value:
            return f"{key} is {stack.get(key)}, not {value}"
    python = one_cell.cell(study, directory, one).python
    there, here = locked_stacks.label(stack), locked_stacks.label(_stack(python))
    return "" if there == here else f"it is of {there}, not {here}"


@cache
def _stack(python: str) -> dict[str, str]:
    """What an interpreter has of Paddle, as a fingerprint says it; {} if it cannot be asked."""
    try:
        asked = subprocess.run([python, "-c", _ASK], capture_output=True, timeout=60, check=True)
        found = files.parse_json(asked.stdout, python)
    except (OSError, subprocess.SubprocessError, HarnessError):
        return {}
    return found if isinstance(found, dict) else {}


def _copy(source: str, target: str) -> str:
    if f"{os.sep}checkpoints{os.sep}" in source:
        try:
            os.link(source, target)
            return target
        except OSError:
            pass  # another file system
    return shutil.copy2(source, target)

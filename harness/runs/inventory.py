"""The runs below a folder: where each has come to, and what of them could be done without."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from harness import files
from harness.base.errors import HarnessError
from harness.runs import checkpoints, lock
from harness.runs import run_directory as on_disk
from harness.runs.run_directory import Run

_FRESH = 900.0  # seconds since the last line of a run on another machine, to be called running
QUALITY = ("fid", "fd_digits", "val_loss")


@dataclass(frozen=True)
class Listed:
    """One run, or a folder that should be one: then `state` is broken and `note` says why.

    `state`: running (`note`: the process), interrupted, done, broken. Speed in images/s, size in
    bytes, `touched` as time.time.
    """

    directory: str
    state: str
    note: str = ""
    config: str = ""
    seed: int | None = None
    step: int = 0
    steps: int = 0
    speed: float | None = None
    loss: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    bytes: int = 0
    touched: float = 0.0


def listed(folder: Path) -> list[Listed]:
    """Every run at any depth below `folder`, by path; what is inside a run is not looked through.

    A run that cannot be read is listed as broken, and stops nothing.
    """
    found = []
    for path, folders, names in os.walk(folder):
        folders.sort()
        if "run.json" in names:
            folders.clear()
            found.append(_look(Path(path)))
    return found


def _look(path: Path) -> Listed:
    try:
        run = on_disk.load(path)
        metrics, timing, results = run.metrics(), run.timing(), run.results()
        config = run.config
    except HarnessError as error:
        return Listed(str(path), "broken", str(error), bytes=size(path))
    step = max([line["step"] for line in metrics[-1:]] + run.checkpoint_steps(), default=0)
    touched = run.touched()
    last = [line for line in timing if files.is_number(line.get("images_per_second"))][-1:]
    figures = {
        key: value for result in results if isinstance(result.get("metrics"), dict)
        for key in QUALITY if files.is_number(value := result["metrics"].get(key))
    }
    state, note = _state(run, touched)
    return Listed(
        str(path), state, note, config.name, run.seed, step, config.train.max_steps,
        last[0]["images_per_second"] if last else None,
        metrics[-1]["loss"] if metrics and files.is_number(metrics[-1].get("loss")) else None,
        figures, size(path), touched,
    )


def _state(run: Run, touched: float) -> tuple[str, str]:
    holder = lock.holder(run.directory)
    if holder:
        host = holder.partition(" on ")[2]
        here = host == socket.gethostname()
        if here or time.time() - touched < _FRESH:
            return "running", holder
    done = max(run.checkpoint_steps(), default=0) >= run.config.train.max_steps
    return ("done" if done else "interrupted"), ""


def size(folder: Path) -> int:
    """Bytes of the files below `folder`; what goes away meanwhile counts nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total


def spare(found: Collection[Listed], kept: Collection[str] = ()) -> dict[str, int]:
    """Directory -> bytes of all but the newest checkpoint, for each run that is done.

    Runs whose name is in `kept` (those of a baseline) are left whole, and so are others than done.
    """
    doomed = {}
    for one in found:
        if one.state == "done" and Path(one.directory).name not in kept:
            run = on_disk.load(one.directory)
            freed = sum(size(run.checkpoint(step)) for step in run.checkpoint_steps()[:-1])
            if freed:
                doomed[one.directory] = freed
    return doomed


def prune(directory: str) -> None:
    """Remove all but the newest checkpoint; EnvironmentFault if somebody works on the run."""
    run = on_disk.load(directory)
    with lock.locked(run.directory):
        checkpoints.prune(run.checkpoints, run.checkpoint_steps(), keep=1)

"""A study's directory: the only module that knows the names in it.

    DIR/
      study.json          schema, digest, the study's values with its configs complete
      lock                held while `harness study run` works here
      configs/NAME.toml   the configs, as the cells are given them
      cells/ID/           an ordinary run directory
      state/ID.json       attempts, how the last one ended
      state/ID/lock       held while a process works on the cell
      logs/ID.txt         what a cell's process said
      slurm/              batch scripts and the numbers of their jobs
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import configs, files, runs
from harness.base.errors import DataError, Interrupted, UsageError
from harness.runs import lock
from harness.studies import study_file
from harness.studies.study_file import Study

SCHEMA = 1  # of study.json
STATE_SCHEMA = 1  # of state/ID.json, which is of version 1 where it has none
_SAVING = 90.0  # seconds that the processes of a command take to save, once it was killed


@dataclass(frozen=True)
class State:
    """What is known of a cell's attempts.

    `code`: how the last one ended (0 done), None while it is being worked on by `process`, or was
    when that died. `reason`: of a failure, one line.
    """

    attempts: int = 0
    code: int | None = None
    reason: str = ""
    process: str = ""  # "process 12 on HOST", as in a run's lock

    @property
    def done(self) -> bool:
        return self.code == 0

    def alive(self) -> bool | None:
        """Whether who works on it is there; None if that cannot be told from here."""
        if self.code is not None or not self.process:
            return False
        number, _, host = self.process.removeprefix("process ").partition(" on ")
        if host != socket.gethostname():
            return None
        return number.isdigit() and Path(f"/proc/{number}").exists()


def begin(directory: Path, study: Study) -> None:
    """Note the study in `directory`, or go on there; UsageError if it holds something else."""
    path = directory / "study.json"
    if path.exists():
        other = load(directory).digest
        if other != study.digest:
            raise UsageError(
                f"{directory} holds another study (digest {other[:12]}, here {study.digest[:12]})",
                remedy=f"give another -o, with --adopt {directory}/cells for what is done there",
            )
    elif directory.exists() and any(not one.name.startswith(".") for one in directory.iterdir()):
        raise UsageError(f"{directory} is not empty and not a study",
                         remedy="give another -o; nothing there was touched")
    else:
        files.atomic_write_json(
            path, {"schema": SCHEMA, "digest": study.digest, "study": study.resolved()})
    for name, config in study.configs.items():
        if not (there := config_file(directory, name)).exists():
            files.atomic_write_bytes(there, configs.describe(config).encode())


def load(directory: Path) -> Study:
    """The study of a directory. UsageError if there is none, DataError if it is not sound."""
    path = directory / "study.json"
    if not path.is_file():
        raise UsageError(f"{directory} is not a study: it has no study.json",
                         remedy="begin one with `harness study run FILE -o DIR`")
    found = files.read_json(path)
    files.refuse_newer(found, SCHEMA, path)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a study of schema {SCHEMA}")
    study = study_file.from_values(found.get("study"), source=str(path))
    if study.digest != found.get("digest"):
        raise DataError(f"{path}: the study does not match its digest",
                        remedy="the file was changed after the study began; restore it")
    return study


def config_file(directory: Path, name: str) -> Path:
    return directory / "configs" / f"{name}.toml"


def run_directory(directory: Path, cell: str) -> Path:
    return directory / "cells" / cell


def log_file(directory: Path, cell: str) -> Path:
    return directory / "logs" / f"{cell}.txt"


def last_words(directory: Path, cell: str) -> str:
    """The last line of what a cell's process said."""
    try:
        with open(log_file(directory, cell), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return (lines or ["it said nothing"])[-1].removeprefix("harness: error: ")


def state(directory: Path, cell: str) -> State:
    """A cell's state; that of one not begun if there is none. DataError if it is broken."""
    path = directory / "state" / f"{cell}.json"
    said = files.read_json(path) if path.exists() else {}
    files.refuse_newer(said, STATE_SCHEMA, path)
    keys = asdict(State()).keys() & said.keys() if isinstance(said, dict) else set()
    found = State(**{key: said[key] for key in keys}) if keys or said == {} else State(-1)
    texts = isinstance(found.reason, str) and isinstance(found.process, str)
    if not (texts and type(found.attempts) is int and found.attempts >= 0
            and type(found.code) in (int, type(None))):
        raise DataError(f"{path} is no cell's state", remedy="remove it")
    return found


def note(directory: Path, cell: str, state: State) -> None:
    """Write a cell's state, whole or not at all."""
    files.atomic_write_json(directory / "state" / f"{cell}.json", asdict(state))


@contextlib.contextmanager
def worked_on(directory: Path, cell: str) -> Iterator[None]:
    """Keep a cell for this process; Interrupted where another one goes on working on it.

    Slurm puts back a job of a machine that it does not reach, while its processes may go on there.
    """
    end = time.monotonic() + _SAVING
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(runs.locked(directory / "state" / cell))
                break
            except lock.InUse as error:
                if time.monotonic() > end:
                    raise Interrupted(error.message, remedy="run the same command later") from error
                time.sleep(0.2)
        yield


def this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"

"""A command is sent a signal at a chosen moment: a real process, held there (strike/)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import command
from tests.faults.cases import content
from tests.warm import wait_for

_HOLDS = Path(__file__).parent / "strike"


@dataclass
class Ended:
    """How it ended, and what the kernel would have handed to the held process's handlers."""

    returncode: int
    stdout: str
    stderr: str
    caught: set[int]


def to_process(process: psutil.Process, number: int) -> None:
    """The process that the user started: with --nproc, the one that launches the others."""
    process.send_signal(number)


def to_group(process: psutil.Process, number: int) -> None:
    """What a terminal's Ctrl-C reaches."""
    os.killpg(process.pid, number)


def to_everyone(process: psutil.Process, number: int) -> None:
    """What srun and a service manager reach: the process and all that came of it."""
    for one in [process, *process.children(recursive=True)]:
        one.send_signal(number)


def to_rank(process: psutil.Process, number: int) -> None:
    """One of several workers alone."""
    workers = [p for p in process.children(recursive=True) if "PADDLE_TRAINER_ID" in p.environ()]
    max(workers, key=lambda p: p.pid).send_signal(number)


def struck(
    arguments: Sequence[object], moment: str | Callable[[], object], number: int,
    to: Callable[[psutil.Process, int], None], *, cwd: Path, **variables: str,
) -> Ended:
    """How `python -m ARGUMENTS` ends that gets signal `number` at `moment`.

    `moment`: as strike/sitecustomize.py has it, or what is true when it has come.
    """
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/err", "w+") as errors:
        hold = {} if callable(moment) else {"MOMENT": moment, "STRIKE": folder}
        path = os.pathsep.join(map(str, (_HOLDS, command.ROOT)))
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)], cwd=cwd, text=True,
            start_new_session=True, stdout=subprocess.PIPE, stderr=errors,
            env={**command.environment(**variables), **hold, "PYTHONPATH": path},
            preexec_fn=_as_in_a_shell,
        )
        reached, caught = Path(folder, "reached"), set()
        come = moment if callable(moment) else lambda: reached.exists() and reached.read_text()
        try:
            wait_for(lambda: come() or process.poll() is not None, seconds=300)
            if process.poll() is None:
                if reached.exists():
                    caught = _caught(reached.read_text())
                to(psutil.Process(process.pid), number)
                time.sleep(0.05)  # a process that is sent one runs its handler when it is next up
            Path(folder, "struck").touch()
            out, _ = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                for one in psutil.Process(process.pid).children(recursive=True):
                    one.kill()
                process.kill()
        errors.seek(0)
        return Ended(process.returncode, out, errors.read(), caught)


def _caught(pid: str) -> set[int]:
    """Signals that have a handler, as the kernel sees it: Python's own view can be wrong."""
    status = Path("/proc", pid, "status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in status if line.startswith("SigCgt")), 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def _as_in_a_shell() -> None:
    """The tests themselves may run where Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def bits(directory: Path) -> dict[str, object]:
    """Everything below that must come out the same, by relative path."""
    return {
        str(path.relative_to(directory)): content(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("lock", "timing.jsonl", "run.json")
    }

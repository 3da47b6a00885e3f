"""Commands that a command of ours runs: when it is interrupted they are, and are waited for."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.distributed.process_group import die_with_parent

_GRACE = 60.0  # seconds to finish a step and save, after SIGTERM
_LISTEN = 1.0  # seconds until a signal is heard that came in the moment before a wait began


def run(
    command: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with captured text, but that nothing outlives an exception raised here.

    The command leads a process group of its own, so that a signal reaches it, and all that it
    starts, through this process only: once, and after this one knows.
    """
    process = _start(command, env, cwd, subprocess.PIPE, subprocess.PIPE)
    try:
        out, errors = _outputs(process)
    except BaseException:
        _send(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_GRACE)  # returns when the last of them has gone
        _send(process, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def start(
    command: Sequence[str], *, env: dict[str, str], log: Path, cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[str]:
    """Begin a command that says what it says at the end of `log`; whoever starts it stops it."""
    with open(log, "a", encoding="utf-8") as said:
        return _start(command, env, cwd, said, said, pass_fds)


def stop(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Have them all stop as on SIGTERM, with the time that their own commands are given; wait."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        _send(process, signal.SIGTERM)
    end = time.monotonic() + 1.25 * _GRACE  # of what they run themselves, and then their own
    for process in left:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    for process in left:
        _send(process, signal.SIGKILL)
        process.wait()


def _start(
    command: Sequence[str], env: dict[str, str] | None, cwd: Path | None, out: Any, errors: Any,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=env, cwd=cwd, text=True, stdout=out, stderr=errors, start_new_session=True,
        pass_fds=pass_fds, preexec_fn=functools.partial(die_with_parent, signal.SIGTERM),
    )


def _outputs(process: subprocess.Popen[str]) -> tuple[str, str]:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_LISTEN)


def _send(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

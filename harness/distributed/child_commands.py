"""Commands that a command of ours runs: when it is interrupted they are, and are waited for."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

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
    process = subprocess.Popen(
        command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, signal.SIGTERM),
    )
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


def _outputs(process: subprocess.Popen[str]) -> tuple[str, str]:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_LISTEN)


def _send(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

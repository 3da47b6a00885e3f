"""Runs the command line as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def harness(*arguments: object, cwd: Path | None = None, timeout: float = 300, **env: str):
    """`harness ARGUMENTS`; returns the finished process (text output, no check)."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment(**env),
    )


def start(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """The same, running; the caller waits or kills."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env),
    )


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with the project importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def assert_one_line_error(process, code: int, *said: str) -> None:
    """The command failed as it should: exit code, one error line, no traceback."""
    assert process.returncode == code, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("harness: error:")]
    assert len(errors) == 1, process.stderr
    assert "Traceback" not in process.stderr
    for text in said:
        assert text in errors[0]

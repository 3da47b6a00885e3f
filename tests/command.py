"""Runs the command line as a user does, in a process of its own.

In a test that process is forked from one that has imported paddle already (tests/warm.py), unless
it is to have variables of its own, which paddle reads when it is imported. That every command
imports what it needs, tests/test_docs_run.py shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.warm import Warm

ROOT = Path(__file__).parents[1]
# Set while a test runs: by pytest, and by what is imported for it (scikit-learn).
_NOT_OURS = ("PYTEST_CURRENT_TEST", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
WARM: Warm | None = None  # the session's, which tests/conftest.py sets


def harness(*arguments: object, cwd: Path | None = None, timeout: int = 300, **env: str):
    """`harness ARGUMENTS`; returns the finished process (text output, no check)."""
    if WARM and environment(**env) == WARM.environment:
        return WARM.run(*arguments, cwd=cwd, timeout=timeout)
    return cold(*arguments, cwd=cwd, timeout=timeout, **env)


def cold(*arguments: object, cwd: Path | None = None, timeout: int = 300, **env: str):
    """The same, where nothing is imported yet."""
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
    ours = {key: value for key, value in os.environ.items() if key not in _NOT_OURS}
    return {**ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def assert_one_line_error(process, code: int, *said: str) -> None:
    """The command failed as it should: exit code, one error line, no traceback."""
    assert process.returncode == code, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("harness: error:")]
    assert len(errors) == 1, process.stderr
    assert "Traceback" not in process.stderr
    for text in said:
        assert text in errors[0]

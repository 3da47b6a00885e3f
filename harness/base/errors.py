"""Errors that a user can meet, each with the exit code that a script can act on.

Every expected failure is a `HarnessError`: one line saying what is wrong and
where, and what to do about it. The command line prints it without a traceback.
Anything else that escapes is a bug (exit code 1, traceback).
"""

from __future__ import annotations

from harness.base.wording import printable

_LONGEST = 1500  # characters of a message, and of a remedy


class HarnessError(Exception):
    """What is wrong and where (`message`), and what to do about it (`remedy`)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None):
        self.message = _one_line(message)
        self.remedy = _one_line(remedy) if remedy else None
        super().__init__(f"{self.message}; {self.remedy}" if self.remedy else self.message)


class UsageError(HarnessError):
    """Wrong usage or configuration."""

    exit_code = 2


class GateFailed(HarnessError):
    """A comparison that gates found something worse."""

    exit_code = 3


class DataError(HarnessError):
    """A file is corrupt, hostile, or does not fit what it is used with."""

    exit_code = 4


class NewerFile(DataError):
    """A file of a version that only a newer harness reads: not broken, so never passed over."""


class EnvironmentFault(HarnessError):
    """This machine cannot do it: no GPU, disk full, out of memory, missing weights."""

    exit_code = 5


class Interrupted(HarnessError):
    """Stopped on request after saving; the same command continues."""

    exit_code = 75


def _one_line(text: str) -> str:
    """As one line, not endless, that a terminal only shows: a hostile file may have had a say."""
    line = " ".join(str(text).split())
    return printable(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")

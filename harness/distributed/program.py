"""A program of ours from its start to its exit code: signals, expected errors, what is a bug.

Imports next to nothing: the command line starts with it.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from harness.base import insistent_signals
from harness.base.errors import EnvironmentFault, HarnessError
from harness.base.progress import say


class _Signal(BaseException):
    """SIGTERM or Ctrl-C; not an Exception, so that nothing on the way takes it for an error."""


_signals: list[str] = []  # names of those that came
_AT_ONCE = 2.0  # seconds in which a second signal is the same request: of a group, of a parent
_first = 0.0
_STDOUT = 1


def _interrupt(number: int, _frame: object) -> None:
    if insistent_signals.again():
        if not insistent_signals.due(_Signal):
            return
    else:
        global _first
        if _signals and time.monotonic() - _first < _AT_ONCE:
            return
        _first = time.monotonic()
        _signals.append(signal.Signals(number).name)
        insistent_signals.begin(number)
    raise _Signal


def run(command: Callable[[], object]) -> None:
    """Run a program of ours; expected errors are one line on stderr and an exit code."""
    try:
        _print_any_path()
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # a shell's background job
                signal.signal(number, _interrupt)
        sys.unraisablehook = _unraisable
        command()
        _hear_no_more()
    except SystemExit as leaving:
        _hear_no_more()
        # click's own answer is 1 (`harness config show | head`).
        if isinstance(leaving.__context__, BrokenPipeError) and _reader_has_gone():
            _drop_output()
            _exit(0)
        raise
    except BaseException as error:
        _hear_no_more()
        if _signals:
            # Inside an import, a signal comes out as any error at all. Files appear whole or not
            # at all, so there is nothing to put right.
            _end(75, f"{_signals[0]}: stopped; run the same command again")
        if isinstance(error, HarnessError):
            _end(error.exit_code, f"error: {error}")
        if isinstance(error, MemoryError):
            _end(5, "error: out of memory; lower the batch sizes")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _drop_output()  # what stdout is redirected to may be what is full
            _end(5, f"error: {error.strerror}; free some space and run the same command again")
        if isinstance(error, OSError) and error.filename is not None:
            # Between two looks at it: what is there is read and written by `harness.files`.
            fault = EnvironmentFault(f"cannot use {error.filename}: {error.strerror}",
                                     remedy="see that nothing else changes it meanwhile")
            _end(fault.exit_code, f"error: {fault}")
        _tell_launcher(1, f"{type(error).__name__}: {error}")
        raise


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Say nothing of a signal that was dropped in a callback: it is raised again."""
    if dropped.exc_type is not _Signal:
        sys.__unraisablehook__(dropped)


def _hear_no_more() -> None:
    """The command has ended: a signal has nothing left to stop, and the exit code stands."""
    insistent_signals.end()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _print_any_path() -> None:
    """Have stdout take every path, as the bytes that it is; by default the locale C has none else.

    stderr shows what it cannot encode by its number, as it is.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        ascii_only = codecs.lookup(sys.stdout.encoding).name == "ascii"
        sys.stdout.reconfigure(
            encoding="utf-8" if ascii_only else None, errors="surrogateescape"
        )


def _reader_has_gone() -> bool:
    """Whether stdout is a pipe that nobody reads: another broken pipe is no reason to end well."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_output() -> None:
    """Let nothing that stdout still holds be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _end(code: int, message: str) -> None:
    if not _tell_launcher(code, message.removeprefix("error: ")):
        say(f"harness: {message}")
    _exit(code)


def _tell_launcher(code: int, message: str) -> bool:
    """One of several workers leaves its error where the process that launched them looks."""
    if "HARNESS_RANK_REPORTS" not in os.environ:
        return False
    from harness.distributed import rank_reports

    return rank_reports.error(code, message)


def _exit(code: int) -> None:
    sys.stdout.flush()
    raise SystemExit(code)

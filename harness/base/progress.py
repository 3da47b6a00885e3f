"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

_LINE_EVERY = 15.0  # seconds between lines when stderr is not a terminal


class Progress:
    """Counts finished units of `total`; shows rate and time left. A context manager.

    `start`: units that were finished earlier (a resume); they do not count in the rate.
    `silent`: this process says nothing (another one of the job does). `early`: the first units
    are told at once, with the time that the rest will take.
    """

    def __init__(
        self, total: int, label: str, *, start: int = 0, unit: str = "it", silent: bool = False,
        early: bool = False,
    ):
        self._total, self._label, self._unit = total, label, unit
        self._done = self._start = self._told = start
        self._began = self._spoke = time.monotonic()
        if early:
            self._spoke -= _LINE_EVERY
        self._postfix = ""
        self._bar: Any = None
        self._silent = silent
        if sys.stderr.isatty() and not silent:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=start, desc=label, unit=unit, file=sys.stderr,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._done > self._told:
            self._line()

    def advance(self, count: int = 1, shown: Mapping[str, str] | None = None) -> None:
        """`count` more units are done; `shown` are figures to print beside the bar."""
        self._done += count
        if shown:
            self._postfix = " ".join(f"{key}: {value}" for key, value in shown.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self._postfix, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= _LINE_EVERY:
            self._line()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent here counts neither in the rate nor in the time left."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def write(self, message: str) -> None:
        """A line of text that does not tear the bar."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            say(message)

    def _line(self) -> None:
        if self._silent:
            return
        now = time.monotonic()
        rate = (self._done - self._start) / max(now - self._began, 1e-9)
        left = (self._total - self._done) / rate if rate else float("inf")
        self._spoke, self._told = now, self._done
        say(
            f"{self._label}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.3g} {self._unit}/s, {_duration(left)} left {self._postfix}".rstrip()
        )


def say(message: str) -> None:
    """One log line on stderr; where that cannot be written (`2>&1 | head`), work goes on."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

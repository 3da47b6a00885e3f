"""SIGTERM and Ctrl-C: a step is finished, what is beside training is dropped."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from harness.base.progress import say
from harness.distributed import process_group


class StopNow(BaseException):
    """A signal came while nothing was at stake; not an Exception, so that nothing swallows it."""


class Stop:
    """Turns the first SIGTERM or Ctrl-C into a flag; a second one kills at once."""

    GRACE = 10.0  # seconds that a step may take to end after the signal

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._at_once = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._ask)
                # Paddle's sockets take an interrupted call for a broken connection.
                signal.siginterrupt(number, False)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises `StopNow` where it meets the program."""
        self._at_once = True
        try:
            if self.asked:
                raise StopNow
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """Raise `StopNow` if a signal came so long ago that the step is not worth finishing."""
        if self.asked and time.monotonic() - self._since > self.GRACE:
            raise StopNow

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked, self._since = True, time.monotonic()
        # Paddle's launcher sends SIGTERM three times within a second and means one.
        once = number == signal.SIGTERM and process_group.started_by_launch()
        signal.signal(number, signal.SIG_IGN if once else self._former[number])
        if self._at_once:
            self._at_once = False
            raise StopNow
        say(f"{signal.Signals(number).name}: finishing this step, then saving")

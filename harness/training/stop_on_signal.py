"""SIGTERM and Ctrl-C: a step is finished, what is beside training is dropped."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from harness.base import insistent_signals
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
            # Else the second of paddle's three cuts short how this process leaves the others.
            ignored = self.asked and _comes_again(number)
            signal.signal(number, signal.SIG_IGN if ignored else handler)

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
            insistent_signals.end()

    def check(self) -> None:
        """Raise `StopNow` if a signal came so long ago that the step is not worth finishing."""
        if self.asked and time.monotonic() - self._since > self.GRACE:
            raise StopNow

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again = insistent_signals.again()
        if self.asked and again:
            if self._at_once and insistent_signals.due(StopNow):
                raise StopNow
            return
        if self.asked:
            self._kill(number, frame)
            return
        self.asked, self._since = True, time.monotonic()
        insistent_signals.end()  # of what came before this was entered, if that is why it is called
        if self._at_once:
            insistent_signals.begin(number)
            raise StopNow
        say(f"{signal.Signals(number).name}: finishing this step, then saving")

    def _kill(self, number: int, frame: FrameType | None) -> None:
        """What a second signal does."""
        if _comes_again(number):
            return
        former = self._former[number]
        if callable(former):
            former(number, frame)
        else:
            signal.signal(number, former)
            signal.raise_signal(number)


def _comes_again(number: int) -> bool:
    """Whether several SIGTERMs mean one: paddle's launcher sends three within a second.

    Slurm sends it to every process of a step, and a command that started this one passes it on.
    """
    by_others = process_group.started_by_launch() or "SLURM_STEP_ID" in os.environ
    return number == signal.SIGTERM and by_others

"""Two trainings of one machine that take turns, a step each: how `harness ab` times them.

What a machine does to a step (another program, heat, a host that is busy) lasts for seconds, less
than a run and more than a step: of two steps in turns it hits both.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping

from harness.base.errors import UsageError

_VARIABLE = "HARNESS_TURNS"  # "first 5", "second 6": who begins, and the socket to the other


@contextlib.contextmanager
def pair() -> Iterator[list[tuple[dict[str, str], int]]]:
    """For each of two processes, the variables it is given and the descriptor it inherits.

    Whoever starts them leaves the block when one has ended, so that the other hears of it.
    """
    first, second = socket.socketpair()
    with first, second:
        yield [({_VARIABLE: f"{which} {end.fileno()}"}, end.fileno())
               for which, end in (("first", first), ("second", second))]


class Turns:
    """One side's part: `begin` before the first step, `pass_on` after each.

    A training that is no side of a comparison takes no turns, and one whose other side has ended
    goes on alone.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ):
        which, _, descriptor = environment.get(_VARIABLE, "").partition(" ")
        self._second = which == "second"
        try:
            self._other = socket.socket(fileno=int(descriptor)) if which else None
        except (OSError, ValueError) as error:  # not inherited by the workers of one side
            raise UsageError(
                "a training of several processes takes no turns step by step",
                remedy="compare with --turns runs",
            ) from error
        if self._other:
            self._other.set_inheritable(False)

    def begin(self) -> None:
        """Return when it is this side's turn."""
        if self._second:
            self._wait()

    def pass_on(self) -> None:
        """Let the other side make a step, and return after it."""
        if self._other:
            with contextlib.suppress(OSError):  # it has ended: the wait will tell
                self._other.send(b".", socket.MSG_NOSIGNAL)
            self._wait()

    def _wait(self) -> None:
        if self._other and not self._heard(self._other):
            self.close()

    @staticmethod
    def _heard(other: socket.socket) -> bool:
        with contextlib.suppress(ConnectionError):
            return bool(other.recv(1))
        return False

    def close(self) -> None:
        """Leave all further turns to the other side."""
        if self._other:
            self._other.close()
        self._other = None

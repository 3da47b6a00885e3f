"""What a signal's handler raises is raised again until it is on its way up.

Python drops an exception that comes within a callback (a weak reference's, a finalizer's, one that
C calls while a module is imported), and some code catches everything: the signal would be lost.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time

_PAUSE = 0.2  # seconds between two calls
_turn = 0  # odd while something is insisted on; no lock, for handlers come anywhere
_again = False


def begin(number: int) -> None:
    """Have the handler of signal `number` called again and again in the main thread, until `end`.

    It is to ask `again` whether this is such a call, and then to raise only if that is `due`.
    """
    global _turn
    _turn += 1 + _turn % 2  # the next odd one
    _thread.start_new_thread(_call, (number, _turn))


def end() -> None:
    """What was raised has arrived, or is not waited for any more."""
    global _turn
    _turn += _turn % 2


def again() -> bool:
    """Whether the handler that asks was called by this module, not by a signal."""
    global _again
    found, _again = _again, False
    return found


def due(kind: type[BaseException]) -> bool:
    """Whether what was raised has been dropped: no such exception is being handled by now."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is None and bool(_turn % 2)


def _call(number: int, turn: int) -> None:
    global _again
    while True:
        time.sleep(_PAUSE)
        if _turn != turn:
            return
        _again = True
        # A true one: a call that sleeps would not hear of `_thread.interrupt_main`.
        signal.pthread_kill(threading.main_thread().ident or 0, number)

"""Something goes wrong at the k-th file-system call: the process is killed, or the call fails.

The calls of module `os` that `harness` and `shutil` make are wrapped in place. A write can
also be cut in half first, as a full disk does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

CALLS = (
    "open", "write", "pwrite", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir",
    "scandir", "ftruncate", "remove", "fchmod",
)


class Injector:
    """Counts calls; at number `at` (from 1) does `act` in place of, or after half of, the call."""

    def __init__(self, at: int, act: Callable[[str], None], *, half: bool = False):
        self.count, self.at, self.act, self.half = 0, at, act, half
        self.names: list[str] = []

    def wrap(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **named):
            self.count += 1
            self.names.append(name)
            if self.count == self.at:
                if name == "close":  # a failing close has closed the descriptor all the same
                    real(*arguments, **named)
                if self.half and name == "write" and len(arguments[1]) > 1:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                self.act(name)
            return real(*arguments, **named)

        return call


@contextlib.contextmanager
def injected(injector: Injector) -> Iterator[Injector]:
    """Inside, calls of `os` go through `injector`."""
    real = {name: getattr(os, name) for name in CALLS}
    try:
        for name, function in real.items():
            setattr(os, name, injector.wrap(name, function))
        yield injector
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def kill(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int) -> Callable[[str], None]:
    """The call fails with this errno."""

    def act(_name: str) -> None:
        raise OSError(number, os.strerror(number))

    return act


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its exit status as `os.waitstatus_to_exitcode` has it."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

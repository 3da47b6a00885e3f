"""One process at a time works on a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from harness import files
from harness.base.errors import EnvironmentFault

NAME = "lock"


class InUse(EnvironmentFault):
    """Another process works there."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory`; InUse naming the holder if another process does.

    An flock dies with its process, so a lock left by a killed one is harmless.
    """
    with files.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(directory)
    try:
        with files.writing(directory / NAME):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(directory: Path) -> str:
    """Who holds the lock of `directory`, as far as can be told without asking for it; else ''.

    On this machine the process is there and the kernel lists the lock; what another machine's
    process wrote is believed.
    """
    try:
        with open(directory / NAME, "rb") as file:
            text = file.read(200).decode(errors="replace").strip()
            inode = os.fstat(file.fileno()).st_ino
    except OSError:
        return ""
    if text.partition(" on ")[2] != socket.gethostname():
        return text
    try:
        held = Path("/proc/locks").read_text().split("\n")
    except OSError:
        return "" if _dead(text) else text
    return text if any(f":{inode} " in line for line in held) and not _dead(text) else ""


def _acquire(directory: Path) -> int:
    path = directory / NAME
    while True:
        with files.writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `--overwrite` may have taken the directory away between opening and locking.
            if _same_file(descriptor, path):
                return descriptor
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise EnvironmentFault(
                    f"{path} cannot be locked: {error.strerror}",
                    remedy="keep runs on a file system that has locks",
                ) from error
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InUse(
                f"{directory} is being worked on by {holder}", remedy="wait for it, or stop it"
            ) from error
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """Who wrote its name into the lock; waits a moment for one that has only just taken it."""
    text = ""
    for _ in range(50):
        text = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        if text and not _dead(text):
            return text
        time.sleep(0.02)
    return text or "another process"


def _dead(holder: str) -> bool:
    """Whether the named process was one of this machine and is gone: a former holder."""
    number, _, host = holder.removeprefix("process ").partition(" on ")
    if host != socket.gethostname() or not number.isdigit():
        return False
    return not Path(f"/proc/{number}").exists() and Path("/proc/self").exists()

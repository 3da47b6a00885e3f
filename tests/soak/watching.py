"""What a process and a place take at a moment, as the kernel says."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass
class Usage:
    """Of a process: resident bytes, open descriptors, threads; or the most of each."""

    bytes: int = 0
    descriptors: int = 0
    threads: int = 0

    def most(self, other: Usage) -> Usage:
        return Usage(*map(max, asdict(self).values(), asdict(other).values()))


def usage(pid: int) -> Usage | None:
    """Of process `pid`; None if it has ended."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Usage(process.memory_info().rss, process.num_fds(), process.num_threads())
    except psutil.Error:
        return None


def left_over(mark: str, known: set[int]) -> list[int]:
    """Processes that have `mark` in their environment, but `known`; and zombies of those."""
    found = []
    for process in psutil.process_iter():
        try:
            zombie = process.status() == psutil.STATUS_ZOMBIE and process.ppid() in known
            if process.pid not in known and (zombie or mark in process.environ().values()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def files_below(place: Path) -> tuple[int, int]:
    """Number of files below `place`, and their bytes; logs, which grow by right, do not count."""
    number = size = 0
    for folder, _, names in os.walk(place):
        for name in names:
            if not name.endswith(".jsonl"):
                number, size = number + 1, size + os.lstat(os.path.join(folder, name)).st_size
    return number, size

"""What a container lets this process use: the limits of cgroups, versions 1 and 2."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def processors(root: Path = Path("/")) -> float:
    """Processors' worth of time that the tightest group up the tree grants; inf without a limit."""
    best = math.inf
    for group in _groups(root, "cpu"):
        words = _words(group / "cpu.max") or [
            *_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            best = min(best, int(words[0]) / int(words[1]))
    return best


def usable() -> float:
    """Processors' worth of time that this process can have: its own set of them, and the limit."""
    return min(len(os.sched_getaffinity(0)), processors())


def memory(root: Path = Path("/")) -> float:
    """Bytes that the tightest group up the tree grants; inf without a limit.

    Version 1 says 'no limit' as a number near 2**63, more than any machine has.
    """
    best = math.inf
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            best = min([best, *(int(word) for word in _words(group / name) if word.isdigit())])
    return best


def quota_periods(root: Path = Path("/")) -> tuple[int, int]:
    """(periods of a quota, those in which it ran out), of the group where it ran out most often."""
    found = [(0, 0)]
    for group in _groups(root, "cpu"):
        words = _words(group / "cpu.stat")
        told = dict(zip(words[::2], words[1::2], strict=False))
        numbers = [told.get(key, "") for key in ("nr_periods", "nr_throttled")]
        if all(map(str.isdigit, numbers)):
            found.append((int(numbers[0]), int(numbers[1])))
    return max(found, key=lambda one: one[1])


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's groups, each with those above it.

    In a container the path may be the host's, of which only the lower part or none is mounted:
    folders that are not there say nothing, and the mount's own root is always among them.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        relative = Path(path.lstrip("/"))
        for mount in [names, controller] if names else ["", "unified"]:
            top = root / "sys/fs/cgroup" / mount
            yield from (top / part for part in (relative, *relative.parents))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").split()
    except OSError:
        return []

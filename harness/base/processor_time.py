"""Where processors' time went, by the kernel's own counters (proc(5), cgroups 1 and 2)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ticks:
    """Processor time since the machine started, in the kernel's ticks."""

    all: int = 0
    stolen: int = 0  # a virtual machine's: the host gave it to others
    idle: int = 0


def ticks(root: Path = Path("/"), processors: Collection[int] | None = None) -> Ticks:
    """What /proc/stat says now, of these processors or all; zeros where it says nothing."""
    try:
        lines = (root / "proc/stat").read_text(errors="replace").splitlines()
    except OSError:
        return Ticks()
    names = {"cpu"} if processors is None else {f"cpu{number}" for number in processors}
    every = [line.split()[1:9] for line in lines if line.split(" ", 1)[0] in names]
    if not every or any(len(f) < 8 or not all(map(str.isdigit, f)) for f in every):
        return Ticks()
    user, nice, system, idle, wait, *interrupts, stolen = (
        sum(map(int, column)) for column in zip(*every, strict=True)
    )
    return Ticks(user + nice + system + idle + wait + sum(interrupts) + stolen, stolen, idle + wait)

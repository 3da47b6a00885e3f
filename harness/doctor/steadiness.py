"""What makes a CPU's figures move from one minute to the next, as far as the kernel tells.

The list is that of `pyperf system show` (https://pyperf.readthedocs.io/en/latest/system.html).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from harness.base import container_limits, processor_time
from harness.base.processor_time import Ticks
from harness.doctor.findings import Finding, noted

_CPUS = "sys/devices/system/cpu"
_UNTOLD = "not told (a virtual machine's host keeps it)"
_BUSY = 0.5  # of the processors that others keep, and a figure is not worth much
_STOLEN = 0.01


def facts(before: Ticks, load: float, root: Path = Path("/")) -> Iterator[Finding]:
    """All of them. `before`: ticks, and `load`: processes that ran, before a piece of work."""
    yield _governor(root)
    yield _turbo(root)
    yield _smt(root)
    processors = os.cpu_count() or 1
    yield noted(
        "load", f"{load:.1f} processes on {processors} processors in the last minute",
        "" if load < _BUSY * processors else "measure when they have ended; until then believe "
        "ratios of rounds in turn, no seconds",
    )
    yield _quota(root)
    yield _stolen(before, processor_time.ticks(root))


def _governor(root: Path) -> Finding:
    found = _read(root / _CPUS / "cpu0/cpufreq/scaling_governor")
    return noted("governor", found or _UNTOLD, "" if found in ("", "performance") else
                 "for steady figures: `cpupower frequency-set -g performance` as root")


def _turbo(root: Path) -> Finding:
    intel, others = (
        root / _CPUS / "intel_pstate/no_turbo", root / _CPUS / "cpufreq/boost"
    )
    on = {"0": "1", "1": "0"}.get(_read(intel)) or _read(others)
    if on not in ("0", "1"):
        return noted("turbo", _UNTOLD)
    if on == "0":
        return noted("turbo", "off")
    off = f"echo 1 > {intel}" if _read(intel) else f"echo 0 > {others}"
    return noted("turbo", "on: the clock follows heat and what the other cores do",
                 f"for steady figures: `{off}` as root")


def _smt(root: Path) -> Finding:
    active = _read(root / _CPUS / "smt/active")
    if active not in ("0", "1"):
        return noted("smt", _UNTOLD)
    if active == "0":
        return noted("smt", "off: a processor is a core")
    return noted("smt", "on: two processors share a core's units",
                 "for steady figures: OMP_NUM_THREADS = the number of cores, or `echo off > "
                 f"{root / _CPUS / 'smt/control'}` as root")


def _quota(root: Path) -> Finding:
    granted = container_limits.processors(root)
    if math.isinf(granted):
        return noted("quota", "none")
    return noted("quota", f"{granted:g} processors' worth of time, of cgroups: who uses more waits",
                 "for steady figures: no more threads than that (OMP_NUM_THREADS)")


def _stolen(before: Ticks, now: Ticks) -> Finding:
    if not now.all:
        return noted("stolen time", "not told")
    lately = (now.stolen - before.stolen) / max(1, now.all - before.all)
    always = now.stolen / now.all
    return noted(
        "stolen time", f"{lately:.1%} while products were measured, {always:.1%} since the start",
        "" if lately < _STOLEN else "the host serves other machines: more rounds, or another one",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

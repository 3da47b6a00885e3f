"""What bears on a step's time beside the step: heat and power of a card, others on the machine.

Read once a second by a thread. A share has one meaning on both: `others_share`, of what is computed
on, kept by other processes (of these processors' time; of the seconds in which one was on the
card); `throttled_share`, of the time in which clocks were held down for heat or lack of power, or a
quota of processor time had run out.
"""

from __future__ import annotations

import math
import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

from harness.base import container_limits, nvml, processor_time
from harness.base.nvml import Card
from harness.distributed.process_group import World

EVERY = 1.0  # seconds
_MOST_PAUSED = 0.1  # of an interval: what happened while evaluating or saving is no step's
_LEAST_TICKS = 20
# How one figure of a job is made of its processes'.
_OF_JOB: dict[str, Callable[[list[float]], float]] = {
    "others_share": max, "throttled_share": max, "throttled_heat_share": max,
    "power_capped_share": max, "stolen_share": max, "watts": sum, "sm_mhz": min, "celsius": max,
    "ecc_errors": sum,
}
Sample = dict[str, float]


def here() -> Callable[[], Sample]:
    """What reads the device that paddle computes on."""
    card = nvml.card_of_paddle()
    return CardReader(card) if card else ProcessorReader()


class CardReader:
    """A card's state now. What it does not tell is left out."""

    def __init__(self, card: Card):
        self._card, self._errors = card, card.ecc_errors()

    def __call__(self) -> Sample:
        card, reasons = self._card, self._card.reasons()
        found: Sample = {
            "throttled_share": float(any(reasons & bit for bit in nvml.FAULTS)),
            "throttled_heat_share": float(bool(reasons & nvml.HEAT)),
            "power_capped_share": float(bool(reasons & nvml.POWER_CAP)),
        }
        if (processes := card.processes()) is not None:
            # One is this. Its number may be the host's, which a container does not know.
            found["others_share"] = float(processes > 1)
        if (milliwatts := card.ask("PowerUsage")) is not None:
            found["watts"] = milliwatts / 1e3
        if (clock := card.ask("ClockInfo", pynvml.NVML_CLOCK_SM)) is not None:
            found["sm_mhz"] = float(clock)
        if (heat := card.ask("Temperature", pynvml.NVML_TEMPERATURE_GPU)) is not None:
            found["celsius"] = float(heat)
        if (errors := card.ecc_errors()) is not None:
            found["ecc_errors"] = float(errors - (self._errors or 0))
        return found


class ProcessorReader:
    """What became, since the last call, of the time of the processors that this process may use."""

    def __init__(self, root: Path = Path("/")):
        self._root, self._processors = root, os.sched_getaffinity(0)
        self._before = self._read()

    def _read(self) -> tuple[processor_time.Ticks, float, tuple[int, int]]:
        return (
            processor_time.ticks(self._root, self._processors),
            time.process_time() * os.sysconf("SC_CLK_TCK"),
            container_limits.quota_periods(self._root),
        )

    def __call__(self) -> Sample:
        (was, own, periods), now = self._before, self._read()
        ticks, own_now, periods_now = now
        every = ticks.all - was.all
        if every < _LEAST_TICKS:
            return {}
        self._before = now
        stolen, idle = ticks.stolen - was.stolen, ticks.idle - was.idle
        ran = periods_now[0] - periods[0]
        return {
            "own_share": (own_now - own) / every,
            "busy_share": (every - stolen - idle) / every,
            "stolen_share": stolen / every,
            "throttled_share": (periods_now[1] - periods[1]) / ran if ran > 0 else 0.0,
        }


class Watch:
    """Reads once a second from a thread of its own, until closed."""

    def __init__(self, read: Callable[[], Sample], paused: Callable[[], float]):
        """`paused()`: seconds that so far were no training."""
        self._read, self._paused = read, paused
        self._samples: list[Sample] = []
        self._guard, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        paused = self._paused()
        while not self._end.wait(EVERY):
            sample, before, paused = self._read(), paused, self._paused()
            if sample and paused - before <= _MOST_PAUSED * EVERY:
                with self._guard:
                    self._samples.append(sample)

    def lap(self) -> Sample:
        """Means of what was read since the last lap (the highest, of heat and of errors)."""
        with self._guard:
            samples, self._samples = self._samples, []
        found = {}
        for key in dict.fromkeys(key for sample in samples for key in sample):
            values = [sample[key] for sample in samples if key in sample]
            most = key in ("celsius", "ecc_errors")
            found[key] = max(values) if most else sum(values) / len(values)
        return found

    def close(self) -> None:
        self._end.set()
        self._thread.join(5.0)  # a card that fell off its bus may never answer


def of_job(own: Sample, world: World) -> dict[str, Any]:
    """What timing.jsonl keeps of every process's lap; all of them must ask, each with its own.

    others_share, throttled_share, throttled_heat_share, power_capped_share, stolen_share: the
    worst device's; watts and ecc_errors (since the process began): the sum of all; sm_mhz: the
    slowest; celsius: the hottest. What was not told is left out.
    """
    keys = (*_OF_JOB, "busy_share", "own_share")
    told = world.gather(np.array([_processors(), *(own.get(key, math.nan) for key in keys)]))
    found: dict[str, Any] = {}
    for column, (key, merge) in enumerate(_OF_JOB.items(), 1):
        values = [float(rank[column]) for rank in told if not math.isnan(rank[column])]
        if len(values) == world.size:
            found[key] = merge(values)
    # Processes on the same processors are no others to each other.
    others = []
    for where in {rank[0] for rank in told}:
        there = [rank for rank in told if rank[0] == where]
        others.append(max(0.0, max(r[-2] for r in there) - sum(r[-1] for r in there)))
    if not any(math.isnan(share) for rank in told for share in rank[-2:]):
        found["others_share"] = float(max(others))
    return found


def _processors() -> float:
    """A number for the processors that this process may use, equal where they are the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = os.uname().nodename
    return float(zlib.crc32(f"{boot} {sorted(os.sched_getaffinity(0))}".encode()))

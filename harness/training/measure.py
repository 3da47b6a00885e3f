"""Honest throughput and memory: warm-up, evaluation and saving are not training time."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from harness.distributed.process_group import World

WARMUP_STEPS = 3  # steps of a process that are not timed: allocation, autotuning, page faults


class Chrono:
    """Times training steps between log lines.

    A step's time runs from the end of the one before it (waiting for data
    included) to its own end. Pauses (evaluation, saving) are taken out, and the
    first `WARMUP_STEPS` steps of a process are not timed at all.
    """

    def __init__(self, images_per_step: int, talked: Callable[[], float] = lambda: 0.0):
        """`talked()`: seconds that this process has so far spent with others, waiting for them
        included (`World.waited`)."""
        self._images, self._talked = images_per_step, talked
        self._seen = 0
        self._waited = self._paused = self._paused_before = 0.0
        self._pause_began: float | None = None
        self._reset()
        self._mark, self._talk_mark = time.perf_counter(), talked()

    def _reset(self) -> None:
        self._steps: list[float] = []
        self._waits: list[float] = []
        self._talks: list[float] = []

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent here is waiting for data (part of the step)."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent here is not training."""
        began, talked = time.perf_counter(), self._talked()
        self._pause_began = began
        try:
            yield
        finally:
            self._pause_began = None
            self._paused += time.perf_counter() - began
            self._talk_mark += self._talked() - talked

    def paused(self) -> float:
        """Seconds in pauses so far, the one that lasts included (for another thread to ask)."""
        began = self._pause_began
        return (self._paused_before + self._paused
                + (0.0 if began is None else time.perf_counter() - began))

    def step_done(self) -> None:
        """A step has ended, its results computed (the loss was read)."""
        now = time.perf_counter()
        if self._seen >= WARMUP_STEPS:
            self._steps.append(now - self._mark - self._paused)
            self._waits.append(self._waited)
            self._talks.append(self._talked() - self._talk_mark)
        self._seen += 1
        self._paused_before += self._paused
        self._mark, self._waited, self._paused = now, 0.0, 0.0
        self._talk_mark = self._talked()

    def lap(self) -> dict[str, Any]:
        """Figures since the last lap; None where no step was timed.

        images_per_second, step_ms (median), step_ms_p95, data_wait_share (of the
        time), steps_timed, seconds (their sum), own_ms (median step less the time spent with
        other processes), communication_share (of the time, spent with them).
        """
        steps, waits, talks = self._steps, self._waits, self._talks
        own = [step - talk for step, talk in zip(steps, talks, strict=True)]
        self._reset()
        seconds = sum(steps)
        ordered = sorted(steps)
        return {
            "images_per_second": self._images * len(steps) / seconds if seconds else None,
            "step_ms": 1e3 * statistics.median(steps) if steps else None,
            "step_ms_p95": 1e3 * ordered[int(0.95 * (len(steps) - 1) + 0.5)] if steps else None,
            "data_wait_share": sum(waits) / seconds if seconds else None,
            "steps_timed": len(steps),
            "seconds": seconds,
            "own_ms": 1e3 * statistics.median(own) if own else None,
            "communication_share": sum(talks) / seconds if seconds else None,
        }


def peak_host_bytes() -> int:
    """Peak resident memory of this process since it began, bytes.

    VmHWM, not getrusage's ru_maxrss, which a child inherits from a larger parent.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def peak_device_bytes() -> int | None:
    """Peak memory that paddle's allocator held on the GPU, bytes; None on a CPU.

    Paddle's GPU counters raise on CPU builds.
    """
    import paddle

    if not paddle.device.get_device().startswith("gpu"):
        return None
    return int(paddle.device.cuda.max_memory_reserved())


def snapshot(chrono: Chrono) -> dict[str, Any]:
    """One line for timing.jsonl: the chrono's lap, peaks of memory, and the time of day."""
    return {
        "time": time.time(),
        **chrono.lap(),
        "peak_device_bytes": peak_device_bytes(),
        "peak_host_bytes": peak_host_bytes(),
    }


def of_job(line: dict[str, Any], world: World) -> dict[str, Any]:
    """`line` as the whole job's; every process must ask, each with its own `snapshot`.

    Adds devices, images_per_second_per_device and, for several processes, rank_step_ms (each
    one's median step without the time that it spent with others), slowest_rank (the longest of
    these) and communication_share: the least share of the time that a process spent with
    others, since whoever waits least waits for transfers and not for a slower process. What the
    engine sends during the backward pass (`reduction = "fast"`) is not told apart from it.
    """
    speed = line["images_per_second"]
    own = [line.pop(key) for key in ("own_ms", "communication_share")]
    found = {
        **line, "devices": world.size,
        "images_per_second_per_device": None if speed is None else speed / world.size,
    }
    if world.size == 1:
        return found
    told = world.gather(np.array([np.nan if value is None else value for value in own]))
    if any(np.isnan(values).any() for values in told):  # no step was timed
        return found | {"rank_step_ms": None, "slowest_rank": None, "communication_share": None}
    steps = [float(values[0]) for values in told]
    return found | {
        "rank_step_ms": steps,
        "slowest_rank": steps.index(max(steps)),
        "communication_share": float(min(values[1] for values in told)),
    }

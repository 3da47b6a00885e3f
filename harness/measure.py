"""Honest throughput and memory: warm-up, evaluation and saving are not training time."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

WARMUP_STEPS = 3  # steps of a process that are not timed: allocation, autotuning, page faults


class Chrono:
    """Times training steps between log lines.

    A step's time runs from the end of the one before it (waiting for data
    included) to its own end. Pauses (evaluation, saving) are taken out, and the
    first `WARMUP_STEPS` steps of a process are not timed at all.
    """

    def __init__(self, images_per_step: int):
        self._images = images_per_step
        self._seen = 0
        self._waited = self._paused = 0.0
        self._reset()
        self._mark = self._busy_mark = time.perf_counter()
        self._busy_paused = 0.0

    def _reset(self) -> None:
        self._steps: list[float] = []
        self._waits: list[float] = []

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent here is waiting for data (part of the step)."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent here is not training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began
            self._busy_paused += time.perf_counter() - began

    def step_done(self) -> None:
        """A step has ended, its results computed (the loss was read)."""
        now = time.perf_counter()
        if self._seen >= WARMUP_STEPS:
            self._steps.append(now - self._mark - self._paused)
            self._waits.append(self._waited)
        self._seen += 1
        self._mark, self._waited, self._paused = now, 0.0, 0.0

    def busy(self, waited: float) -> tuple[float, float]:
        """(seconds computing, seconds waiting for other processes) since this was last asked."""
        now = time.perf_counter()
        passed = now - self._busy_mark - self._busy_paused
        self._busy_mark, self._busy_paused = now, 0.0
        return max(passed - waited, 0.0), waited

    def lap(self) -> dict[str, Any]:
        """Figures since the last lap; None where no step was timed.

        images_per_second, step_ms (median), step_ms_p95, data_wait_share (of the
        time), steps_timed, seconds (their sum).
        """
        steps, waits = self._steps, self._waits
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

"""Batches drawn ahead of training, on threads, in bounded memory."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from harness.data.samples import Batch, Source

# Batches waiting for training take at most this much (one batch is always allowed).
AHEAD_BYTES = 256 << 20


def prefetch(
    source: Source, parts: Iterator[tuple[int, range]], workers: int,
    *, ahead_bytes: int = AHEAD_BYTES,
) -> Generator[Batch, None, None]:
    """Batches for (step, sample numbers) in order, drawn ahead on `workers` threads.

    At most `workers` batches, and `ahead_bytes`, are drawn ahead of the consumer.
    With 0 workers they are drawn when asked for. The batches are the same whatever
    the number. Files, checksums, the draws' arithmetic and paddle's kernels release
    Python's lock, so threads do; there is no process to start or to lose.
    """
    buffers = Buffers(workers + 2)
    if workers == 0:
        for step, numbers in parts:
            yield _draw(source, step, numbers, buffers)
        return
    waiting: deque[tuple[Future[Batch], int]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="data") as pool:
        try:
            for step, numbers in parts:
                size = source.batch_bytes(numbers)
                while waiting and sum(s for _, s in waiting) + size > ahead_bytes:
                    yield waiting.popleft()[0].result()
                waiting.append((pool.submit(_draw, source, step, numbers, buffers), size))
                if len(waiting) > workers:
                    yield waiting.popleft()[0].result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def _draw(source: Source, step: int, numbers: range, buffers: Buffers) -> Batch:
    return source.batch(step, numbers, context=buffers.take(source.context_shape(numbers)))


class Buffers:
    """Arrays to be used again once nobody else holds them. Thread-safe.

    A batch's context takes megabytes, which the allocator hands back to the
    system every time: the page faults of a fresh one cost several times the
    reading itself.
    """

    def __init__(self, most: int) -> None:
        self._arrays: list[np.ndarray] = []
        self._most = most  # arrays kept for another use
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A float32 array of `shape`, its content arbitrary, referred to by nobody else."""
        with self._lock:
            for index in range(len(self._arrays)):
                # Held by the list alone: the list's reference and the call's own argument.
                # A view of it (a paddle tensor sharing its memory, too) would be one more.
                idle = sys.getrefcount(self._arrays[index]) == 2
                if idle and self._arrays[index].shape == shape:
                    return self._arrays[index]
            self._arrays = [a for a in self._arrays if a.shape == shape]
            array = np.empty(shape, np.float32)
            if len(self._arrays) < self._most:
                self._arrays.append(array)
            return array

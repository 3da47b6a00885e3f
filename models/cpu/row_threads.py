"""Loops over a tensor's rows, on as many threads as paddle's kernels have.

`models.cpu.kernels` let go of the interpreter, so that plain threads do. How a loop is cut changes
no bit: what is added up is added up within a row, or by blocks that shapes alone decide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import paddle

from harness.base import kernel_choice

BLOCK = 64  # rows
PART = 1 << 18  # floats: a megabyte, enough for the parts of a model to share out evenly


def array(tensor) -> np.ndarray:
    """The memory of a contiguous float32 CPU tensor, in its shape, without a copy.

    Writing to it writes to the tensor. The tensor has to outlive it.
    """
    if not tensor.is_contiguous():
        raise ValueError("only a contiguous tensor can be seen as an array")
    return np.asarray(_Memory(tensor.data_ptr(), tuple(tensor.shape)))


class _Memory:
    """What numpy asks for the place of an array's values."""

    __slots__ = ("__array_interface__",)

    def __init__(self, address: int, shape: tuple[int, ...]):
        self.__array_interface__ = {
            "data": (address, False), "shape": shape, "typestr": "<f4", "version": 3
        }


def scratch(*shape: int) -> np.ndarray:
    """An array for a kernel's own use; at a cache line's start, for MKL's bits may depend on it."""
    count = math.prod(shape)
    room = np.empty(count + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + count].reshape(shape)


def shared(work: Callable[[int, int], object], count: int) -> None:
    """`work(start, stop)` for parts that make up range(count), one for each of `threads()`."""
    parts = min(threads(), count)
    if parts <= 1:
        work(0, count)
        return
    cuts = [count * k // parts for k in range(parts + 1)]
    pool = _pool(parts - 1)
    others = [pool.submit(work, *cut) for cut in pairwise(cuts[1:])]
    work(0, cuts[1])
    for other in others:
        other.result()


def shared_flat(work: Callable[..., object], groups: Sequence[Sequence[np.ndarray]]) -> None:
    """`work(*arrays)` for every group of arrays of one size, flat, in parts of `PART` at most."""
    parts = [
        [array.reshape(-1)[start : start + PART] for array in group]
        for group in groups
        for start in range(0, group[0].size, PART)
    ]

    def some(start: int, stop: int) -> None:
        for part in parts[start:stop]:
            work(*part)

    shared(some, len(parts))


def copies(tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """Numpy copies of tensors by name; of float32 ones on a CPU, by all threads."""
    if not all(map(tuned, tensors.values())):
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    found = {name: np.empty(tensor.shape, np.float32) for name, tensor in tensors.items()}
    shared_flat(np.copyto, [(found[name], array(tensor)) for name, tensor in tensors.items()])
    return found


def column_sums(work: Callable[[slice, np.ndarray], object], rows: int, *shape: int) -> np.ndarray:
    """What `work(rows, sums)` adds to `sums` (float32, of `shape`) over all rows.

    Rows come in blocks of `BLOCK`, each with sums of its own, which are then added in order.
    """
    blocks = -(-rows // BLOCK)
    sums = np.zeros((blocks, *shape), np.float32)

    def some(start: int, stop: int) -> None:
        for block in range(start, stop):
            work(slice(block * BLOCK, (block + 1) * BLOCK), sums[block])

    shared(some, blocks)
    return sums.sum(0)


def tuned(tensor) -> bool:
    """Whether `tensor` is what this is for: float32 on a CPU, unless paddle is to compute it."""
    return kernel_choice.fused() and tensor.dtype == paddle.float32 and tensor.place.is_cpu_place()


def threads() -> int:
    """OMP_NUM_THREADS, which paddle's kernels obey too; it is in the fingerprint."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0] or 1))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="rows")

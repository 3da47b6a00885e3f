"""How fast this machine multiplies matrices, and whether its instructions are being used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from harness.base import cpu_info
from harness.base.cpu_info import Cpu

SHAPE = (1336, 512, 1536)  # rows, inner, columns: the first product of a block of `small`, batch 4
# Float32 operations of one core in one cycle: two 256-bit multiply-adds. Every AVX2 CPU with FMA
# does as many (Intel from Haswell, AMD from Zen 2 on); those that do more are not held to it.
_PER_CYCLE = 32
# MKL's generic path reaches 0.3 to 0.5 of that, the right one 0.85 and more (Zen 4: 0.48 and 1.27
# of the clock that the kernel names, which leaves out turbo).
_SLOW = 0.6
# Variables that keep MKL from a CPU's best instructions.
_LIMITS = ("MKL_DEBUG_CPU_TYPE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")


def best(
    shapes: Sequence[Sequence[int]], repeats: int, *,
    finish: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The best float32 rate in FLOP/s of paddle.matmul, [m, k] times [k, n] for each (m, k, n).

    `finish` waits for a device that works behind the program's back. By time.process_time as
    `clock` it is the rate of one core, whatever else the machine does. Imports paddle.
    """
    import paddle

    found = 0.0
    for m, k, n in shapes:
        a, b = paddle.ones([m, k]), paddle.ones([k, n])
        for _ in range(repeats + 1):  # the first one allocates
            began = clock()
            paddle.matmul(a, b)
            finish()
            found = max(found, 2 * m * k * n / (clock() - began))
    return found


def expected(cpu: Cpu) -> float | None:
    """What one core should reach at least, in FLOP/s, by its instructions and its clock.

    Low on purpose, so that who stays below it has something wrong; None where neither is known.
    """
    if not (cpu.mhz and cpu.flags >= cpu_info.AVX2):
        return None
    return _SLOW * _PER_CYCLE * cpu.mhz * 1e6


def remedy(cpu: Cpu, each: float) -> str:
    """What to do about a core's rate of `each` FLOP/s; empty if it is as it should be."""
    least = expected(cpu)
    if least is None or each >= least:
        return ""
    chosen = cpu_info.mkl_cpu_type(cpu)
    wrong = [
        name for name in _LIMITS
        if name in os.environ and (name != _LIMITS[0] or os.environ[name] != chosen)
    ]
    slow = f"its instructions allow {least / 1e9:.0f} and more: "
    if wrong:
        return f"{slow}unset {' and '.join(wrong)}"
    return f"{slow}see turbo, smt and load, and ask again when the machine is quiet"

"""The devices that a plan can be made for, by their makers' data sheets, and the CPU at hand."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from harness.base import container_limits
from harness.base.cpu_info import cpu_name
from harness.base.errors import UsageError
from reports.tables import gpu_peaks

GB = 1e9


@dataclass(frozen=True)
class Device:
    """One device: bytes of memory, bytes/s to it, and to its neighbour (one way, one at a time)."""

    key: str
    name: str  # as reports.tables.gpu_peaks knows it
    memory: float
    bandwidth: float
    link: float  # NVLink where the machine has it, else PCIe

    @property
    def is_cpu(self) -> bool:
        return self.key == "cpu"

    def peak(self, precision: str) -> tuple[float, str]:
        """(FLOP/s, in which arithmetic); a CPU's is measured now, in a quarter of a second.

        UsageError for a precision that the device does not have.
        """
        if self.is_cpu:
            return _product_rate(), "numpy's fp32 products, measured now"
        found = gpu_peaks.peak(self.name, precision)
        if found is None:
            raise UsageError(f"{self.name} does not compute in {precision}",
                             remedy="plan with --set train.precision=fp16 or fp32")
        return found.flops, f"{found.arithmetic}, data sheet"


# Memory and its bandwidth as the data sheets have them. Links one way: half of NVLink's total;
# PCIe 3, 4, 5 x16 at 12, 24 and 48 GB/s, which is what copies reach of 16, 32 and 64.
GPUS = (
    Device("v100", "Tesla V100-SXM2-32GB", 32 * GB, 900 * GB, 150 * GB),
    Device("t4", "Tesla T4", 16 * GB, 320 * GB, 12 * GB),
    Device("a10", "NVIDIA A10", 24 * GB, 600 * GB, 24 * GB),
    Device("a100-40g", "NVIDIA A100-SXM4-40GB", 40 * GB, 1_555 * GB, 300 * GB),
    Device("a100-80g", "NVIDIA A100-SXM4-80GB", 80 * GB, 2_039 * GB, 300 * GB),
    Device("l4", "NVIDIA L4", 24 * GB, 300 * GB, 24 * GB),
    Device("l40s", "NVIDIA L40S", 48 * GB, 864 * GB, 24 * GB),
    Device("h100", "NVIDIA H100 80GB HBM3", 80 * GB, 3_350 * GB, 450 * GB),
    Device("h200", "NVIDIA H200", 141 * GB, 4_800 * GB, 450 * GB),
    Device("b200", "NVIDIA B200", 180 * GB, 8_000 * GB, 900 * GB),
    Device("rtx3090", "NVIDIA GeForce RTX 3090", 24 * GB, 936 * GB, 24 * GB),
    Device("rtx4090", "NVIDIA GeForce RTX 4090", 24 * GB, 1_008 * GB, 24 * GB),
    Device("rtx5090", "NVIDIA GeForce RTX 5090", 32 * GB, 1_792 * GB, 48 * GB),
)
KEYS = (*(gpu.key for gpu in GPUS), "cpu")


def find(key: str) -> Device:
    """The device of that key, whose memory on a CPU is what this process may use; UsageError."""
    if key not in KEYS:
        raise UsageError(f"no device {key!r} is known", remedy=f"one of {', '.join(KEYS)}")
    if key == "cpu":
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = min(physical, container_limits.memory())
        # What the update reached on two cores of a server (docs/planning.md: steps of one image).
        return Device("cpu", cpu_name(), memory, 14 * GB, 10 * GB)
    return next(gpu for gpu in GPUS if gpu.key == key)


def _product_rate(size: int = 1024, seconds: float = 0.25) -> float:
    """FLOP/s of numpy's float32 matrix product: which library it is, paddle's is another."""
    import numpy as np

    a, b = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best

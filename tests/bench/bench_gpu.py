"""On a GPU: precision, attention, recompute and batch size of `small`; images/s, MFU, memory.

Each variant trains in a process of its own, because paddle 2.6 cannot reset its peak of allocated
memory. Steps are timed in groups between two synchronisations; the median of the groups counts.
The ratio to the peak is the MFU: images/s over what the device's dense peak for that precision, by
NVIDIA's data sheets (the table in `reports.tables.flops`), would allow for the model's operations
(of `reports.tables.flops`, recomputed ones not counted); the row names the peak's arithmetic.
Memory is what paddle's allocator gave to tensors, against what `harness plan` says.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from harness import configs
from harness.plan import memory
from reports.tables import flops, gpu_peaks
from tests.bench import inputs, sides
from tests.bench.options import Options
from tests.bench.rows import Row, faster, share
from tests.bench.worker import Worker, WorkerFailed

PART, GROUP, WARM = "gpu", 10, 5
BF16_SINCE = (8, 0)  # compute capability of Ampere


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    precision: str = "fp32"
    level: str = "O1"
    attention: str = "math"
    recompute: bool = False
    batch: int = 32

    @property
    def name(self) -> str:
        """As the table has it."""
        half = "" if self.precision == "fp32" else f" {self.level}"
        return f"{self.precision}{half}, {self.attention}{', recompute' * self.recompute}"

    def sets(self) -> list[str]:
        """--set values."""
        return [
            f"train.precision={self.precision}", f"train.amp_level={self.level}",
            f"train.attention={self.attention}", f"train.recompute={str(self.recompute).lower()}",
        ]


HALF = [(p, level) for p in ("fp16", "bf16") for level in ("O1", "O2")]
VARIANTS = [
    Variant(), Variant(attention="memory_efficient"),
    *(Variant(p, level) for p, level in HALF),
    *(Variant(p, level, "memory_efficient") for p, level in HALF),
    *(Variant(p, "O1", "memory_efficient", recompute=True) for p in ("fp16", "bf16")),
    Variant(batch=64), *(Variant(p, level, "memory_efficient", batch=64) for p, level in HALF),
    Variant("fp16", "O1", "memory_efficient", recompute=True, batch=64),
]
QUICK = VARIANTS[:1]


def rows(options: Options) -> Iterator[Row]:
    """Two or three rows a variant; what the device cannot do is said on stderr and left out."""
    seconds: dict[Variant, list[float]] = {}
    for variant in QUICK if options.quick else VARIANTS:
        sets = sides.settings(options, variant.batch, *variant.sets())
        try:
            told = _measured(options, variant, sets)
        except WorkerFailed as failure:
            print(f"gpu: {variant.name}: not measured: {failure}", file=sys.stderr)
            continue
        if told.get("lacks"):
            print(f"gpu: {variant.name}: not measured: {told['lacks']}", file=sys.stderr)
            continue
        seconds[variant] = told["seconds"]
        yield from _rows(variant, sets, told, seconds)


def _measured(options: Options, variant: Variant, sets: list[str]) -> dict:
    section = configs.load("small", sets).model.model_dump()
    with options.folder() as folder:
        inputs.write(folder, section, batch=variant.batch, count=2)
        with Worker(
            "tests.bench.bench_gpu:Device", threads=options.threads, folder=str(folder),
            config="small", sets=sets,
        ) as worker:
            return worker.measure(groups=options.rounds)


def _rows(variant: Variant, sets: list[str], told: dict, seconds: dict) -> Iterator[Row]:
    config = configs.load("small", sets)
    section = config.model.model_dump()
    name = f"train small, batch {variant.batch}, {variant.name}"
    rates = [variant.batch / each for each in told["seconds"]]
    first = Variant(batch=variant.batch)
    if variant != first and first in seconds:
        yield faster(PART, name, f"{first.name}, on {told['device']}", told["seconds"],
                     seconds[first])
    peak = gpu_peaks.peak(told["device"], variant.precision, tf32_off=told["tf32_off"])
    if peak:
        most = peak.flops / flops.training_flops(section)
        yield share(PART, name, f"peak, {peak.arithmetic}", rates, [most] * len(rates),
                    unit="images/s")
    expected = memory.parts(config, variant.batch)
    del expected["workspace"]
    said = memory.total(expected)
    yield share(PART, f"{name}: memory", "plan", [told["bytes"]], [said], unit="B")


class Device:
    """A trainer on the GPU, its counters and its clock."""

    def __init__(self, folder: str, config: str, sets: list[str]):
        from tests.bench import uvit_ours

        self.lacks = missing(configs.load(config, sets).train.precision)
        self.model = None if self.lacks else uvit_ours.UViT(folder, config, sets)

    def measure(self, groups: int) -> dict[str, object]:
        """Seconds a step of each group, peak of allocated bytes, device; or what is lacking."""
        import os

        import paddle

        if self.model is None:
            return {"lacks": self.lacks}
        for _ in range(WARM):
            self.model.step()
        seconds = []
        for _ in range(groups):
            paddle.device.synchronize()
            began = time.perf_counter()
            for _ in range(GROUP):
                self.model.step()
            paddle.device.synchronize()
            seconds.append((time.perf_counter() - began) / GROUP)
        return {
            "seconds": seconds, "bytes": paddle.device.cuda.max_memory_allocated(),
            "device": paddle.device.cuda.get_device_name(),
            "tf32_off": os.environ.get("NVIDIA_TF32_OVERRIDE") == "0",
        }


def missing(precision: str) -> str:
    """What this process lacks for training on a GPU in `precision`; empty if nothing."""
    import paddle

    if not paddle.device.get_device().startswith("gpu"):
        return "paddle runs on the CPU here; `harness doctor` tells why"
    if precision == "bf16" and tuple(paddle.device.cuda.get_device_capability()) < BF16_SINCE:
        return f"{paddle.device.cuda.get_device_name()} has no bf16"
    return ""

"""Peak memory of training, a fresh process each, against what `harness plan` says it takes.

Measured: the process' high-water mark (VmHWM) after two steps, less what it held before the model;
the plan's `process` is left out alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import configs
from harness.plan import memory
from tests.bench import inputs, sides
from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import Worker

PART = "memory"
SIZES = (("small", (1, 4, 8)), ("small_deep", (4,)), ("mid", (2,)), ("large", (1,)), ("huge", (1,)))


def rows(options: Options) -> Iterator[Row]:
    """Each size and batch, with and without recompute."""
    for name, batches in SIZES[:1] if options.quick else SIZES:
        for batch in batches[:1] if options.quick else batches:
            for recompute in (False, True):
                more = ["train.recompute=true"] if recompute else []
                sets = sides.settings(options, batch, *more)
                config = configs.load(name, sets)
                with options.folder() as folder:
                    inputs.write(folder, config.model.model_dump(), batch=batch, count=1)
                    with Worker(
                        "tests.bench.bench_memory:Peak", threads=options.threads,
                        folder=str(folder), config=name, sets=sets,
                    ) as worker:
                        peak = worker.peak()
                expected = memory.parts(config, batch, on_cpu=True)
                del expected["process"]
                said = f"train {name}, batch {batch}{', recompute' * recompute}"
                yield share(PART, said, "plan", [peak], [memory.total(expected)], unit="B")


class Peak:
    """Training in a process of which nothing else is asked."""

    def __init__(self, folder: str, config: str, sets: list[str]):
        from tests.bench import uvit_ours

        self.before = resident_bytes()
        self.model = uvit_ours.UViT(folder, config, sets)

    def peak(self) -> int:
        """Bytes that two steps took at most, more than was held before the model was made."""
        from harness.training import measure

        for _ in range(2):
            self.model.step()
        return measure.peak_host_bytes() - self.before


def resident_bytes() -> int:
    """What this process has in memory now (VmRSS)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024

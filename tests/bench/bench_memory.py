"""Peak memory of training `small`, a fresh process each, against what arithmetic says it takes.

Arithmetic, float32: parameters, gradients, two moments and EMA (5 numbers a parameter), and what
the backward pass needs: for each block and token 16 widths (the inputs of the two norms and of
qkv, projection, fc1 and fc2 with q, k and v, and fc1's output before GELU: 1+1+3+1+1+1+4+4), and
two widths for each long skip's concatenation (Korthikanti et al. 2022, section 4.1, less dropout);
H L attention weights as well where they are kept, which on a CPU they are not. With recompute: each
block's input, and one block's activations.
Measured: the process' high-water mark (VmHWM) after two steps, less what it held before the model.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import configs
from reports.tables import flops
from tests.bench import inputs, sides
from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import Worker

PART = "memory"


def rows(options: Options) -> Iterator[Row]:
    """Each batch size with and without recompute."""
    for batch in (1, 2) if options.quick else (1, 4, 8):
        for recompute in (False, True):
            more = ["train.recompute=true"] if recompute else []
            sets = sides.settings(options, batch, *more)
            section = configs.load("small", sets).model.model_dump()
            with options.folder() as folder:
                inputs.write(folder, section, batch=batch, count=1)
                with Worker(
                    "tests.bench.bench_memory:Peak", threads=options.threads, folder=str(folder),
                    sets=sets,
                ) as worker:
                    peak = worker.peak()
            expected = arithmetic(section, batch, recompute=recompute)
            name = f"train small, batch {batch}{', recompute' * recompute}"
            yield share(PART, name, "arithmetic", [peak], [expected], unit="B")


def arithmetic(model: dict, batch: int, *, recompute: bool, scores: bool = False) -> float:
    """Bytes of training in float32 on one batch; `scores`: attention weights are kept."""
    s = flops.shape(model)
    heads = model["num_attention_heads"]
    block = 16 * s.tokens * s.width + scores * heads * s.tokens**2
    joined = 2 * s.tokens * s.width
    if recompute:
        activations = (s.blocks + s.skips) * s.tokens * s.width + block + joined
    else:
        activations = s.blocks * block + s.skips * joined
    return 4.0 * (5 * flops.parameters(model) + batch * activations)


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

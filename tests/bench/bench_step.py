"""The training step of `small`: against ppdiffusers', PyTorch's, and what sgemm would allow.

The peers are those of `tests.bench.sides`, by groups that share a series of rounds with ours, and
on a CPU ours by paddle's own kernels.

Ours is the harness' own Trainer (forward, backward, AdamW, EMA, the loss read), the others do the
same: `tests.bench.uvit_ppdiffusers`, `tests.bench.uvit_torch`. Batches are in memory for all.
The limit is the step's operations (`reports.tables.flops.training_flops`: three times those of a
forward pass, two for each multiply-add, nothing for softmax, norms and the like) at the best rate
that paddle.matmul reached in the same round, of 2048^3 and the MLP's own shape, five times each.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import configs
from reports.tables import flops
from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, Skipped, faster

PART, BATCH = "step", 4


def rows(options: Options) -> Iterator[Row | Skipped]:
    """Against each peer, and against sgemm."""
    section = configs.load("small", sides.settings(options, BATCH)).model.model_dump()
    shape = flops.shape(section)
    shapes = [[2048] * 3, [BATCH * shape.tokens, shape.width, shape.hidden]]
    if options.quick:
        shapes = shapes[1:]
    work = BATCH * flops.training_flops(section)
    name = f"train small, batch {BATCH}, fp32"
    targets = {
        sides.PPDIFFUSERS: sides.target(2.4, 5.5), sides.SAME_PATH[sides.PPDIFFUSERS]: 2.5,
        sides.TORCH: sides.target(1.25, 2.2), sides.COMPILED: sides.target(1.1, 1.8),
    }
    for group in [*sides.GROUPS, *([[sides.PADDLE]] if options.device == "cpu" else [])]:
        rates: list[float] = []

        def step(worker, rates=rates):
            told = worker.step()
            if worker is workers[sides.OURS]:
                rates.append(worker.sgemm(shapes=shapes, repeats=5))
            return told

        with sides.beside(group, options, batch=BATCH) as workers:
            told = sides.series(workers, step, options.rounds)
        sides.require_same("loss", {side: each[0]["loss"] for side, each in told.items()})
        took = {side: [one["seconds"] for one in each] for side, each in told.items()}
        yield from sides.against(group, options, PART, name, took, targets)
        if group is sides.GROUPS[0]:
            limits = [work / rate for rate in rates[1:]]  # the first round warms up
            yield faster(PART, name, "the limit: its operations at sgemm's rate",
                         took[sides.OURS], limits, target=0.75)

"""The training step of `small`: against ppdiffusers', PyTorch's, and what sgemm would allow.

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
from tests.bench.rows import Row, faster

PART, BATCH = "step", 4


def rows(options: Options) -> Iterator[Row]:
    """Against (a) ppdiffusers, (b) PyTorch, (c) sgemm."""
    section = configs.load("small", sides.settings(options, BATCH)).model.model_dump()
    shape = flops.shape(section)
    shapes = [[2048] * 3, [BATCH * shape.tokens, shape.width, shape.hidden]]
    if options.quick:
        shapes = shapes[1:]
    rates = []

    def step(worker):
        told = worker.step()
        if worker is workers[sides.OURS]:
            rates.append(worker.sgemm(shapes=shapes, repeats=5))
        return told

    with sides.three(options, batch=BATCH) as workers:
        told = sides.series(workers, step, options.rounds)
    sides.require_same("loss", {name: each[0]["loss"] for name, each in told.items()})
    took = {name: [one["seconds"] for one in each] for name, each in told.items()}
    mine = took[sides.OURS]
    name = f"train small, batch {BATCH}, fp32"
    yield faster(PART, name, "ppdiffusers, paddle's defaults", mine, took[sides.PPDIFFUSERS],
                 target=2.2)
    yield faster(PART, name, "PyTorch", mine, took[sides.TORCH], target=1.0)
    work = BATCH * flops.training_flops(section)
    limits = [work / rate for rate in rates[1:]]  # the first round warms up
    yield faster(PART, name, "the limit: its operations at sgemm's rate", mine, limits, target=0.55)

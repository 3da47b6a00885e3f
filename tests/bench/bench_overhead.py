"""What the harness adds to training: logging, EMA, checkpoints and digests, against the bare loop.

The bare loop has the same model, optimizer and batches, drawn ahead by the same threads. Measured
whole for `digits_tiny`, a hundred steps with their checkpoint. A hundred steps of `small` would
take too long, so they are put together from what was measured: a step of the trainer beside a bare
one, and what a checkpoint costs the steps around it (the difference between runs with and without,
so work in the background is counted as far as it slows the steps down).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import Worker

PART, TARGET, EVERY = "overhead", 1.02, 100


def rows(options: Options) -> Iterator[Row]:
    """`digits_tiny` measured, `small` put together."""
    yield _digits(options)
    yield _small(options)


def _running(folder, options: Options, config: str, sets: list[str]) -> Worker:
    off = ["train.image_steps=0", "train.eval_steps=0", "train.eval_at_start=false"]
    return Worker(
        "tests.bench.running:Running", threads=options.threads, folder=str(folder), config=config,
        sets=[*sets, *off],
    )


def _digits(options: Options) -> Row:
    steps = 8 if options.quick else EVERY
    whole, bare = [], []
    with options.folder() as folder, _running(folder, options, "digits_tiny", []) as worker:
        for _ in range(options.rounds):
            bare.append(worker.bare(steps=steps))
            ends = worker.harness(steps=steps, save_steps=10**6)
            whole.append(ends[-1] - ends[-steps - 2])
    name = f"digits_tiny, {steps} steps and a checkpoint"
    return share(PART, name, "bare loop", whole, bare, target=TARGET)


def _small(options: Options) -> Row:
    cycle, cycles = (2, 2) if options.quick else (5, options.rounds)
    with options.folder() as folder:
        sets = sides.settings(options, 1)
        with _running(folder / "one", options, "small", sets) as worker:
            steps = cycle * (cycles + 1)
            costs = [
                a - b for a, b in zip(
                    _cycles(worker.harness(steps=steps, save_steps=cycle), cycle),
                    _cycles(worker.harness(steps=steps, save_steps=10**6), cycle), strict=True,
                )
            ]
        with _running(folder / "four", options, "small", sides.settings(options, 4)) as worker:
            worker.pair()
            pairs = [worker.pair() for _ in range(cycles)]
    whole = [EVERY * a + cost for (a, _), cost in zip(pairs, costs, strict=False)]
    bare = [EVERY * b for _, b in pairs]
    name = f"small, batch 4, {EVERY} steps and a checkpoint (from parts)"
    return share(PART, name, "bare loop", whole, bare, target=TARGET)


def _cycles(ends: list[float], cycle: int) -> list[float]:
    """Seconds from before each step that saves until before the next one that does.

    `ends[i]` is when step i + 1 ended; steps cycle, 2 cycle, ... are saved after.
    """
    at = range(cycle - 2, len(ends) - 1 - cycle, cycle)
    return [ends[i + cycle] - ends[i] for i in at]

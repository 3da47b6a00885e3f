"""What the harness adds to training: logging, EMA, checkpoints and digests, against the bare loop.

The bare loop has the same model, optimizer and batches, drawn ahead by the same threads. Measured
whole for `digits_tiny`, a hundred steps with their checkpoint. A hundred steps of `small` would
take too long, so they are put together from what was measured: a bare step at batch 4; what a step
of the trainer takes more than a bare one, which the batch does not change, so that it is measured
at batch 1, where four pairs a round (their order alternating, the median counts) show it through
the noise of steps; and what a checkpoint costs the steps after it, against as many steps before it
(so work in the background is counted as far as it slows steps down).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import Worker

PART, TARGET, EVERY = "overhead", 1.02, 100
CURVES_TARGET = 1.005


def rows(options: Options) -> Iterator[Row]:
    """`digits_tiny` measured, `small` put together."""
    yield _digits(options)
    yield _small(options)
    yield _curves(options)


def _running(folder, options: Options, config: str, sets: list[str]) -> Worker:
    off = ["train.image_steps=0", "train.eval_steps=0", "train.eval_at_start=false"]
    return Worker(
        "tests.bench.running:Running", threads=options.threads, folder=str(folder), config=config,
        sets=[*sets, *off],
    )


def _digits(options: Options) -> Row:
    half = (8 if options.quick else EVERY) // 2
    whole, bare = [], []
    with options.folder() as folder, _running(folder, options, "digits_tiny", []) as worker:
        for _ in range(options.rounds):
            # Bare, whole, whole, bare: a machine that gets slower meanwhile favours neither.
            first = worker.bare(steps=half)
            one, two = (worker.harness(steps=half, save_steps=10**6) for _ in range(2))
            bare.append(first + worker.bare(steps=half))
            # The checkpoint at the end counts once.
            whole.append(one[-2] - one[-half - 2] + two[-1] - two[-half - 2])
    name = f"digits_tiny, {2 * half} steps and a checkpoint"
    return share(PART, name, "bare loop", whole, bare, target=TARGET)


def _small(options: Options) -> Row:
    cycle, cycles = (2, 2) if options.quick else (6, options.rounds)
    with options.folder() as folder:
        with _running(folder / "one", options, "small", sides.settings(options, 1)) as worker:
            ends = worker.harness(steps=cycle * (2 * cycles + 1), save_steps=2 * cycle)
            costs = _costs(ends, cycle)
            worker.more(pairs=2)
            more = [worker.more(pairs=4) for _ in range(cycles)]
        with _running(folder / "four", options, "small", sides.settings(options, 4)) as worker:
            bare = [EVERY * worker.bare(steps=cycles) / cycles] * cycles
    whole = [b + EVERY * m + cost for b, m, cost in zip(bare, more, costs, strict=True)]
    name = f"small, batch 4, {EVERY} steps and a checkpoint (from parts)"
    return share(PART, name, "bare loop", whole, bare, target=TARGET)


def _curves(options: Options) -> Row:
    """Steps with VisualDL's curves written beside them, once that process has begun."""
    half = (8 if options.quick else EVERY) // 2
    sides_: dict[tuple[str, ...], list[float]] = {("visualdl",): [], (): []}
    with options.folder() as folder, _running(folder, options, "digits_tiny", []) as worker:
        for number in range(options.rounds):
            for kinds in list(sides_)[:: 1 if number % 2 else -1]:
                ends = worker.harness(steps=2 * half, save_steps=10**6, report_to=kinds)
                sides_[kinds].append(ends[-2] - ends[-half - 2])
    name = f"digits_tiny, {half} steps with --report-to visualdl"
    return share(PART, name, "without", *sides_.values(), target=CURVES_TARGET)


def _costs(ends: list[float], cycle: int) -> list[float]:
    """Seconds that a checkpoint adds to the `cycle` steps after it, against those before it.

    `ends[i]` is when step i + 1 ended; steps 2 cycle, 4 cycle, ... are saved after.
    """
    saved = range(2 * cycle - 1, len(ends) - 1 - cycle, 2 * cycle)
    return [(ends[i + cycle] - ends[i]) - (ends[i] - ends[i - cycle]) for i in saved]

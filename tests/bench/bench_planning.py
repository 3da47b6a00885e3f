"""Seconds of a training step against what `harness plan` says from runs of the other sizes.

Each size and batch is measured in a process of its own, in turns. From each one's median the plan's
rate is taken, and what it says of every other size (never of the same one) stands against what that
size took: the ratio is the median over those that it was told from, the spread their extremes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from harness import configs
from harness.plan import devices, speed
from harness.plan.speed import Rate
from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, share

PART = "planning"
SIZES = (("small", (1, 4, 8)), ("small_deep", (1, 4)), ("mid", (1, 2)))


def rows(options: Options) -> Iterator[Row]:
    """Each size and batch."""
    made = {}
    for name, batches in SIZES:
        for batch in batches[:1] if options.quick else batches:
            made[name, batch] = sides.settings(options, batch)
    took = measured(made, options)
    device = devices.find("cpu")
    known = {key: configs.load(key[0], sets) for key, sets in made.items()}
    for (name, batch), config in known.items():
        said = []
        for other, there in known.items():
            if other[0] != name:
                rate = speed.reached(there, took[other], device)
                said.append(speed.step_seconds(config, Rate(rate, rate, ""), device)[0])
        yield share(PART, f"step of {name}, batch {batch}", "plan, from the other sizes",
                    [took[name, batch]] * len(said), said, unit="s")


def measured(made: dict[tuple[str, int], list[str]], options: Options) -> dict:
    """Median seconds of a step, by size and batch; a round has one step of each."""
    with ExitStack() as stack:
        workers = {}
        for (name, batch), sets in made.items():
            folder = stack.enter_context(options.folder())
            worker = sides.ours(folder, replace(options), name, sets, batch)
            workers[name, batch] = stack.enter_context(worker)
        told = sides.series(workers, lambda worker: worker.step()["seconds"], options.rounds)
    return {key: statistics.median(each) for key, each in told.items()}

"""As many samples as the answer needs: more blocks until a distance's interval is narrow enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eval import protocols
from eval.evaluation import evaluate_run
from eval.metrics import intervals, repeated_looks
from eval.protocols import Protocol
from harness import runs
from harness.base.progress import say
from harness.distributed.process_group import World

_LEAST, _MOST = 1.25, 4.0  # how many times as many samples the next look has
# Of the width, what the next look aims at. Widths are estimates: to aim at the width itself would
# be to stop at those that came out small by chance, and such intervals hold less often.
_AIM = 0.85


def until_width(
    run: runs.Run, *, protocol: Protocol, step: int | None, width: float, **places: Any
) -> dict[str, Any] | None:
    """`evaluate_run` with no more samples than make the distance's interval `width` wide.

    `protocol`'s N is the most; where that is not enough, this is said, and N is what is evaluated.
    Samples are the first of that evaluation's, whose blocks lie where it would go on.
    """
    world = places.get("world") or World.alone()
    step = run.chosen_step(step)
    most = protocol.n_samples
    rows = min(run.config.eval.batch_size, most)

    def look(samples: int) -> float:
        drawn = evaluate_run.draw_of_run(
            run, protocol=protocol, step=step, samples=samples, **places
        )
        found = intervals.of_features(
            drawn.features[:samples], drawn.reference, seed=protocol.seed
        )
        # As the leader has it: workers on unlike machines must not part here.
        wide = world.lead(found.high - found.low if found else float("inf"))
        if world.leads:
            say(f"{samples:,} samples: interval {wide:.4g} wide")
        return wide

    samples, wide = search(look, most=most, rows=rows, width=width)
    if wide > width and world.leads:
        say(f"warning: wider than {width:g} with all {most:,} samples of {protocol.name}")
    return evaluate_run.evaluate_run(
        run, protocol=protocols.resized(protocol, samples), step=step, **places
    )


def search(
    look: Callable[[int], float], *, most: int, rows: int, width: float
) -> tuple[int, float]:
    """(N, width of its interval) of the first N looked at that is narrow enough, or of `most`.

    `look(n)`: the width after n samples.
    """
    samples = repeated_looks.planned(most, rows)[0]
    while (wide := look(samples)) > width and samples < most:
        samples = min(most, grown(samples, wide, width, rows))
    return samples, wide


def grown(samples: int, wide: float, width: float, rows: int) -> int:
    """How many samples to look at next: a width falls about as one over the root of N."""
    factor = min(max((wide / (_AIM * width)) ** 2, _LEAST), _MOST)
    return -(-int(samples * factor) // rows) * rows

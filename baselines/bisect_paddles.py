"""Find the Paddle that made a metric worse: versions, wheels, environments in place of commits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from baselines import bisect as bisection
from baselines import paddle_environments
from harness.base.errors import UsageError


def bisect(
    config: str, data: Path, paddles: Sequence[str], *, metric: str, until: int,
    overrides: Sequence[str] = (), arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """The first of `paddles`, oldest first, under which `metric` is worse than under the first.

    Each is what `paddle_environments.interpreter` takes. Returns {"paddle"} or, where some could
    not be told, {"candidates": [...]}. UsageError if the last is not worse than the first.
    """
    names = paddle_environments.names(tuple(paddles))
    if len(set(names)) < len(names):
        raise UsageError("the same Paddle is given twice")
    pythons = {
        name: paddle_environments.interpreter(given)
        for name, given in zip(names, paddles, strict=True)
    }
    with tempfile.TemporaryDirectory(prefix="harness-bisect-") as folder:
        search = bisection.Search(
            config, str(data.resolve()), metric, until, folder, names[0], tuple(overrides),
            tuple(arguments), pythons,
        )
        bisection.prepare(search, names[0], names[-1])
        left = _narrowed(names, lambda name: bisection.judge(search, name))
    return {"paddle": left[0]} if len(left) == 1 else {"candidates": left}


def _narrowed(names: Sequence[str], verdict: Callable[[str], int]) -> list[str]:
    """What may be the first bad one, of `names` whose first is good and whose last is bad."""
    good, bad, skipped = 0, len(names) - 1, set()
    while open_ := [i for i in range(good + 1, bad) if i not in skipped]:
        middle = open_[len(open_) // 2]
        told = verdict(names[middle])
        if told == bisection.GOOD:
            good = middle
        elif told == bisection.BAD:
            bad = middle
        else:
            skipped.add(middle)
    return list(names[good + 1 : bad + 1])

"""What the benchmarks give: rows, each a ratio with its spread and target, and growths."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """Ours against something else: medians, the median ratio of a round and its extremes.

    A round measures both sides right after one another, so that what else the machine does hits
    them alike; hence the ratios of rounds, and not the ratio of medians.
    """

    part: str
    name: str
    against: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    low: float
    high: float
    target: float | None = None
    sense: str = ">="  # how the ratio is to stand to the target

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.sense == ">=" else self.ratio <= self.target

    @property
    def key(self) -> str:
        """What names the same row in another run."""
        return f"{self.part}: {self.name}: {self.against}"


@dataclass(frozen=True)
class Skipped:
    """A row that this machine cannot have, and why."""

    part: str
    name: str
    against: str
    why: str


@dataclass(frozen=True)
class Growth:
    """How `ys` grow with `xs`: y ~ x ** exponent, fitted by least squares of the logarithms."""

    part: str
    name: str
    xs: list[float]
    ys: list[float]
    unit: str

    @property
    def exponent(self) -> float:
        x, y = np.log(self.xs), np.log(self.ys)
        return float(np.polyfit(x, y, 1)[0])


Item = Row | Skipped | Growth


def faster(
    part: str, name: str, against: str, ours: Sequence[float], theirs: Sequence[float],
    *, unit: str = "s", target: float | None = None,
) -> Row:
    """A row whose ratio says how many times as fast ours is; seconds, one of each a round."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return _row(part, name, against, ours, theirs, unit, ratios, target, ">=")


def share(
    part: str, name: str, against: str, ours: Sequence[float], theirs: Sequence[float],
    *, unit: str = "s", target: float | None = None, sense: str = "<=",
) -> Row:
    """A row whose ratio is ours divided by theirs: costs, memory, rates."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return _row(part, name, against, ours, theirs, unit, ratios, target, sense)


def _row(part, name, against, ours, theirs, unit, ratios, target, sense) -> Row:
    return Row(
        part, name, against, statistics.median(ours), statistics.median(theirs), unit,
        statistics.median(ratios), min(ratios), max(ratios), target, sense,
    )


def to_json(item: Item) -> dict[str, Any]:
    """JSON values; a row says whether it met its target, a growth its exponent."""
    more = {}
    if isinstance(item, Row):
        more = {"met": item.met}
    elif isinstance(item, Growth):
        more = {"exponent": item.exponent}
    return {**asdict(item), **more}


def from_json(value: dict[str, Any]) -> Item:
    """What `to_json` gave; KeyError or TypeError for anything else."""
    kind = Growth if "xs" in value else Skipped if "why" in value else Row
    return kind(**{field.name: value[field.name] for field in fields(kind)})


def finite(item: Row | Growth) -> bool:
    """Whether every number in it is one, and positive where it measures something."""
    if isinstance(item, Growth):
        return all(map(math.isfinite, [*item.xs, *item.ys, item.exponent]))
    numbers = (item.ours, item.theirs, item.ratio, item.low, item.high)
    return all(map(math.isfinite, numbers)) and item.ratio > 0


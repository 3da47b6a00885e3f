"""A config's figures over the nights of one runner, and where their levels changed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from baselines.nights.kept_nights import Night
from harness import configs
from harness.base import locked_stacks
from reports.tables import changepoints

_NEAR = 2  # nights by which two changes of one machine may lie apart and still be one event


@dataclass(frozen=True)
class Change:
    """`metric` has a new level from the night at `first` on; `last` is the last of the old one.

    Both are positions in the series, `before` and `after` the levels. `also`: the other configs of
    the runner whose same metric changed within two nights, which speaks for the machine.
    """

    metric: str
    last: int
    first: int
    before: float
    after: float
    p_value: float
    also: tuple[str, ...] = ()


@dataclass
class Series:
    """One config, digest, device and kernels on one runner: a cell a night, ascending."""

    config: str
    digest: str
    device: str
    kernels: str
    runner: str
    nights: list[Night] = field(default_factory=list, repr=False)
    cells: list[dict[str, Any]] = field(default_factory=list, repr=False)
    changes: list[Change] = field(default_factory=list, repr=False)

    def stack(self, at: int) -> dict[str, Any]:
        """The fingerprint of the night at this position."""
        return self.nights[at].stacks[self.cells[at]["stack"]]

    def stack_label(self, at: int) -> str:
        return locked_stacks.label(self.stack(at))

    def stack_differences(self, one: int, other: int) -> dict[str, tuple[Any, Any]]:
        """Fingerprint key -> its values on these two nights, where they differ."""
        before, after = self.stack(one), self.stack(other)
        return configs.differences(before, after) if before != after else {}

    @property
    def metrics(self) -> list[str]:
        """Every metric that some night has, in the order of their first."""
        return list(dict.fromkeys(key for cell in self.cells for key in cell["metrics"]))

    def medians(self, metric: str) -> tuple[list[int], np.ndarray]:
        """Positions of the nights that have values of `metric`, and each night's median."""
        held = [(at, cell["metrics"][metric]["values"]) for at, cell in enumerate(self.cells)
                if cell["metrics"].get(metric, {}).get("values")]
        return [at for at, _ in held], np.array([statistics.median(each) for _, each in held])


def of(nights: Sequence[Night]) -> list[Series]:
    """The series of all nights, sorted by config and runner, with their changes."""
    found: dict[tuple[str, ...], Series] = {}
    for night in nights:
        for cell in night.cells:
            key = (cell["config"], night.runner, cell["device"], cell["kernels"], cell["digest"])
            series = found.get(key) or found.setdefault(key, Series(
                cell["config"], cell["digest"], cell["device"], cell["kernels"], night.runner))
            series.nights.append(night)
            series.cells.append(cell)
    every = [found[key] for key in sorted(found)]
    for series in every:
        series.changes = _changes(series)
    order = {name: at for at, name in enumerate(sorted({night.night for night in nights}))}
    _relate(every, order)
    return every


def _changes(series: Series) -> list[Change]:
    found = []
    for metric in series.metrics:
        at, medians = series.medians(metric)
        found += [
            Change(metric, at[one.index - 1], at[one.index], one.before, one.after, one.p_value)
            for one in changepoints.find(medians)
        ]
    return found


def _relate(every: Sequence[Series], order: dict[str, int]) -> None:
    """Fill in each change's `also`."""
    events: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for series in every:
        for change in series.changes:
            event = (order[series.nights[change.first].night], series.config)
            events.setdefault((series.runner, change.metric), []).append(event)
    for series in every:
        for number, change in enumerate(series.changes):
            now = order[series.nights[change.first].night]
            also = {config for night, config in events[series.runner, change.metric]
                    if config != series.config and abs(night - now) <= _NEAR}
            series.changes[number] = Change(
                **{**vars(change), "also": tuple(sorted(also))})

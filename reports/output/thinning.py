"""Curves thinned to what a picture can show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.reading.run_records import Record

_POINTS_IN_ALL = 60_000
_MOST, _LEAST = 600, 120


@dataclass(frozen=True)
class Curve:
    """One quantity of one run, ascending `steps`; every point the mean of `lines` log lines."""

    steps: np.ndarray
    hours: np.ndarray
    values: np.ndarray
    lines: int = 1


def points_each(runs: int) -> int:
    """How many points a run's curve may have in a report of so many runs."""
    return int(np.clip(_POINTS_IN_ALL // max(runs, 1), _LEAST, _MOST))


def training(record: Record, name: str, points: int) -> Curve | None:
    """A training column as a curve of at most `points`; None if the run has not logged it.

    Neighbouring lines are averaged, step and device-hours too, so that the curve
    lies in the middle of the noise and its integral is kept. The first and the
    last bucket stand for the curve's ends.
    """
    values = record.column(name)
    kept = ~np.isnan(values)
    if not kept.any():
        return None
    steps, hours = record.column("step")[kept].astype(float), record.column("device_hours")[kept]
    lines = -(-int(kept.sum()) // points)
    if lines == 1:
        return Curve(steps, hours, values[kept])
    means = [_bucket_means(part, lines) for part in (steps, hours, values[kept])]
    return Curve(means[0], means[1], means[2], lines)


def _bucket_means(values: np.ndarray, size: int) -> np.ndarray:
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def evaluations(record: Record, metric: str, protocol_digest: str) -> Curve | None:
    """A metric of one protocol over the run's evaluations; None if there is none."""
    found = sorted(
        (f.step, f.value) for f in record.figures
        if f.metric == metric and f.protocol.digest == protocol_digest
    )  # fmt: skip
    if not found:
        return None
    steps, values = np.array(found, dtype=float).T
    return Curve(steps, np.array([record.hours_at(step) for step in steps]), values)

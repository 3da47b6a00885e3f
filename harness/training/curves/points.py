"""What a run directory holds, as points of curves, each of them once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import runs
from harness.base.errors import HarnessError

# Curve -> where its values are: key of a line of metrics.jsonl or timing.jsonl.
_METRICS = {"train/loss": "loss", "train/learning_rate": "lr"}
_TIMING = {
    "speed/images_per_second": "images_per_second",
    "memory/device_bytes": "peak_device_bytes",
    "memory/host_bytes": "peak_host_bytes",
}


@dataclass(frozen=True)
class Scalar:
    """One value of the curve `tag`."""

    tag: str
    step: int
    value: float


@dataclass(frozen=True)
class Picture:
    """A grid of samples, a PNG at `path`."""

    tag: str
    step: int
    path: Path


@dataclass
class Reader:
    """Gives what has come since it last looked; a step of a curve never twice.

    A run that goes on from a checkpoint writes again what it had logged beyond it: the same
    figures, which were given already.
    """

    run: runs.Run
    _given: dict[str, set[int]] = field(default_factory=dict)

    def new(self) -> Iterator[Scalar | Picture]:
        """New points, ascending within each curve."""
        for point in self._all():
            given = self._given.setdefault(point.tag, set())
            if point.step not in given:
                given.add(point.step)
                yield point

    def _all(self) -> Iterator[Scalar | Picture]:
        for lines, keys in ((self.run.metrics, _METRICS), (self.run.timing, _TIMING)):
            for line in _whole(lines):
                for tag, key in keys.items():
                    if isinstance(line.get(key), int | float):
                        yield Scalar(tag, line["step"], float(line[key]))
        for result in _whole(self.run.results):
            yield from _of_result(result)
        for step in self.run.sample_steps():
            yield Picture("samples", step, self.run.sample_grid(step))


def _whole(read: Any) -> list[dict[str, Any]]:
    """What is there to be read; a file that is being replaced at this moment can wait."""
    try:
        return [line for line in read() if isinstance(line.get("step"), int)]
    except (HarnessError, OSError):
        return []


def _of_result(result: dict[str, Any]) -> Iterator[Scalar]:
    """Every figure of an evaluation, with the ends of its interval where it has one."""
    step, name = result["step"], result.get("protocol", {}).get("name", "eval")
    for key, value in result.get("metrics", {}).items():
        if isinstance(value, int | float):
            yield Scalar(f"{name}/{key}", step, float(value))
        elif isinstance(value, list | tuple) and len(value) == 2:
            for end, one in zip(("low", "high"), value, strict=True):
                yield Scalar(f"{name}/{key.removesuffix('_interval')}_{end}", step, float(one))

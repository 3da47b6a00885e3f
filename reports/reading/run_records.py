"""What a run left on disk, read and checked once, as arrays and pandas frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import configs, files, runs
from harness.base.errors import DataError
from harness.base.wording import shown
from reports.reading import fast_lines
from reports.reading.figure_protocols import Protocol

RunLike = runs.Run | Path | str
# Evaluations bootstrap 90 % intervals of distances; others have a standard error, taken as normal.
NORMAL_90 = 1.6448536269514722


@dataclass(frozen=True)
class Figure:
    """One metric of one evaluation; `low` and `high` bound its interval where known."""

    step: int
    metric: str
    value: float
    low: float
    high: float
    protocol: Protocol
    directory: Path


@dataclass(frozen=True)
class Record:
    """One run, read. `label` is its name in the report, unique there.

    `training`: one row a log line, ascending `step`, with the columns of
    metrics.jsonl and timing.jsonl that were there and `device_hours`, the device
    time of all timed steps up to that line (a process's warm-up steps, evaluation
    and saving are not timed).
    """

    label: str
    run: runs.Run
    training: pd.DataFrame = field(repr=False)
    figures: tuple[Figure, ...] = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        return self.run.info["config"]

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.run.info["fingerprint"]

    @property
    def devices(self) -> int:
        """Devices that trained last; a run may go on on another number of them."""
        logged = self.column("devices")
        logged = logged[~np.isnan(logged)]
        # Older logs do not tell.
        return int(logged[-1]) if len(logged) else int(self.fingerprint.get("world_size") or 1)

    @property
    def device(self) -> str:
        return str(self.fingerprint.get("device") or "unknown device")

    @property
    def step(self) -> int:
        """The last logged step; 0 for a run that has logged nothing yet."""
        return int(self.training["step"].iloc[-1]) if len(self.training) else 0

    @property
    def full_steps(self) -> int:
        return int(self.config["train"]["max_steps"])

    def column(self, name: str) -> np.ndarray:
        """A training column, float64, NaN where a line lacks it; empty if there are no lines."""
        if name in self.training:
            return self.training[name].to_numpy()
        return np.full(len(self.training), np.nan)

    def hours_at(self, step: float) -> float:
        """Device-hours of training up to `step`, interpolated between log lines."""
        steps, hours = self._clock
        return float(np.interp(step, steps, hours)) if len(steps) > 1 else np.nan

    @cached_property
    def _clock(self) -> tuple[np.ndarray, np.ndarray]:
        hours = self.column("device_hours")
        known = ~np.isnan(hours)
        steps = np.concatenate([[0.0], self.column("step")[known]])
        return steps, np.concatenate([[0.0], hours[known]])

    @cached_property
    def flat_config(self) -> dict[str, Any]:
        """`section.key` -> value of the config."""
        return configs.flat(self.config)


def read(which: RunLike | Iterable[RunLike] | None = None) -> list[Record]:
    """Read runs: `Run` objects or paths, one or many; None is every run under runs/.

    UsageError if one is not a run, DataError if a file of it is corrupt (a torn
    last line of a log is not).
    """
    opened = _open(which)
    for run in opened:
        _check(run)
    paths = [path for run in opened for path in (run.metrics_file, run.timing_file)]
    logs = fast_lines.read_all(paths)
    names = _labels([run.directory for run in opened])
    return [
        Record(label, run, _training(metrics, timing, run), tuple(_figures(run)))
        for label, run, metrics, timing in zip(
            names, opened, logs[::2], logs[1::2], strict=True
        )
    ]


def _open(which: RunLike | Iterable[RunLike] | None) -> list[runs.Run]:
    if which is None:
        return runs.find()
    if isinstance(which, runs.Run | Path | str):
        which = [which]
    opened = [one if isinstance(one, runs.Run) else runs.load(one) for one in which]
    unique = {run.directory.resolve(): run for run in opened}  # named twice is still one run
    return list(unique.values())


def _check(run: runs.Run) -> None:
    """A config of any age may be reported, but not one changed after the run began."""
    where = run.directory / "run.json"
    for section in ("model", "train"):
        if not isinstance(run.info["config"].get(section), dict):
            raise DataError(f"{where}: the config has no section {section}")
    if not isinstance(run.info["config"].get("name", ""), str):
        raise DataError(f"{where}: the config's name is no text")
    if type(run.info["fingerprint"].get("world_size") or 1) is not int:
        raise DataError(f"{where}: world_size is not a whole number")
    digest = files.json_digest(run.info["config"])
    if digest != run.info["digest"]:
        raise DataError(
            f"{where}: the config does not match its digest",
            remedy="the file was changed after the run began; restore it or leave the run out",
        )


def _labels(directories: list[Path]) -> list[str]:
    """Directory names, with as much of the path before them as tells them apart."""
    parts = [directory.resolve().parts for directory in directories]
    depth = [1] * len(parts)
    while True:
        names = [shown("/".join(p[-d:])) for p, d in zip(parts, depth, strict=True)]
        again = [i for i, name in enumerate(names) if names.count(name) > 1]
        if not again:
            return names
        for i in again:
            depth[i] += 1


def _training(
    metrics: fast_lines.Columns, timing: fast_lines.Columns, run: runs.Run
) -> pd.DataFrame:
    if not metrics and not timing:
        return pd.DataFrame({"step": np.array([], dtype=np.int64)})
    if metrics and timing and np.array_equal(metrics["step"], timing["step"]):
        frame = pd.DataFrame({**timing, **metrics})
    else:  # one file is a line ahead of the other, as after a kill
        empty = pd.DataFrame({"step": []})
        frame = pd.merge(
            pd.DataFrame(metrics) if metrics else empty,
            pd.DataFrame(timing) if timing else empty,
            on="step", how="outer", suffixes=("", "_timing"),
        ).sort_values("step", ignore_index=True)
    frame["step"] = frame["step"].astype(np.int64)
    world = int(run.info["fingerprint"].get("world_size") or 1)
    if "seconds" in frame:
        devices = frame["devices"].fillna(world) if "devices" in frame else world
        frame["device_hours"] = (frame["seconds"].fillna(0.0) * devices).cumsum() / 3600.0
    return frame


def _figures(run: runs.Run) -> Iterable[Figure]:
    for result in run.results():
        directory = Path(result["directory"])
        where = directory / "result.json"
        metrics, protocol = result.get("metrics"), result.get("protocol")
        step, n_samples = result.get("step"), result.get("n_samples")
        if not isinstance(metrics, dict) or not isinstance(protocol, dict):
            raise DataError(f"{where} lacks metrics or a protocol")
        if type(step) is not int or type(n_samples) is not int:
            raise DataError(f"{where} lacks step or n_samples, whole numbers both")
        fallback = directory.name.partition("-")[2]
        made_by = Protocol.of(protocol, n_samples, fallback=fallback)
        uncertainty = result.get("uncertainty")
        known = uncertainty if isinstance(uncertainty, dict) else {}
        known = {**known, "val_loss": result.get("validation")}
        for metric, value in metrics.items():
            if files.is_number(value, finite=False):
                low, high = _interval(value, known.get(metric))
                yield Figure(step, metric, float(value), low, high, made_by, directory)


def _interval(value: float, known: Any) -> tuple[float, float]:
    """Recorded bounds, or the normal 90 % interval of a standard error, or NaN."""
    bounds = known if isinstance(known, dict) else {}
    low, high, standard_error = (bounds.get(key) for key in ("low", "high", "standard_error"))
    if files.is_number(low, finite=False) and files.is_number(high, finite=False):
        return float(low), float(high)
    if files.is_number(standard_error, finite=False):
        return value - NORMAL_90 * standard_error, value + NORMAL_90 * standard_error
    return np.nan, np.nan

"""The tidy frame, for going on in a notebook: one figure a row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports.reading import run_records
from reports.reading.figure_protocols import labels

_NOT_FIGURES = {"step", "time"}


def load(which: run_records.RunLike | Iterable[run_records.RunLike] | None = None) -> pd.DataFrame:
    """Everything that the runs measured, as a tidy frame: one row per run, step and metric.

    `which`: `harness.runs.Run` objects or paths, one or many; None is every run under
    runs/. Columns:

    run        category  the run's name (its directory's, made unique)
    config     category  name of the config
    seed       int64     training seed
    digest     category  digest of the resolved config
    pinned     bool      whether the config is a shipped one, unchanged
    step       int64     training step that the figure belongs to
    metric     category  loss, lr, images_per_second, step_ms, peak_host_bytes, fid, ...
    value      float64   in the unit that the name says; never missing
    low, high  float64   the figure's interval where one is known
    source     category  metrics, timing or eval: which file it was read from
    protocol   category  how an evaluation figure was made, N included; '' for the others
    protocol_digest      the same, exactly: only rows with equal (metric, protocol_digest)
                         may be compared or averaged
    n_samples  Int64     N of an evaluation figure
    device_hours  float64  device time spent in training up to the step

    UsageError if one is not a run, DataError if a file of one is corrupt.

    >>> frame = load(["runs/a", "runs/b"])                                  # doctest: +SKIP
    >>> frame[frame.metric == "loss"].pivot(index="step", columns="run", values="value")
    """
    return frame(run_records.read(which))


def frame(found: list[run_records.Record]) -> pd.DataFrame:
    """The tidy frame of runs already read (see `load`)."""
    names = labels(f.protocol for record in found for f in record.figures)
    parts = [part for one in found for part in (*_training(one), _evaluations(one, names))]
    parts = [part for part in parts if len(part)]
    tidy = pd.concat(parts, ignore_index=True) if parts else _evaluations(None, names)
    for column in ("run", "config", "digest", "metric", "source", "protocol", "protocol_digest"):
        tidy[column] = tidy[column].astype("category")
    tidy["n_samples"] = tidy["n_samples"].astype("Int64")
    return tidy


def _training(record: run_records.Record) -> list[pd.DataFrame]:
    steps, hours = record.column("step"), record.column("device_hours")
    parts = []
    for name in record.training.columns:
        values = record.training[name].to_numpy()
        kept = ~np.isnan(values.astype(float))
        if name in _NOT_FIGURES or name == "device_hours" or not kept.any():
            continue
        source = "metrics" if name in ("loss", "lr") else "timing"
        part = pd.DataFrame({"step": steps[kept].astype(np.int64), "metric": name})
        part["value"], part["low"], part["high"] = values[kept].astype(float), np.nan, np.nan
        part["source"], part["protocol"], part["protocol_digest"] = source, "", ""
        part["n_samples"], part["device_hours"] = np.nan, hours[kept]
        parts.append(_with_run(part, record))
    return parts


def _figures(record: run_records.Record | None) -> list[tuple[run_records.Figure, float]]:
    """Each figure with the device hours at its step; none of no run, which gives the columns."""
    return [(f, record.hours_at(f.step)) for f in record.figures] if record else []


def _evaluations(record: run_records.Record | None, names: dict[str, str]) -> pd.DataFrame:
    rows = [
        {
            "step": f.step, "metric": f.metric, "value": f.value, "low": f.low, "high": f.high,
            "source": "eval", "protocol": names[f.protocol.digest],
            "protocol_digest": f.protocol.digest, "n_samples": f.protocol.n_samples,
            "device_hours": hours,
        }
        for f, hours in _figures(record)
    ]  # fmt: skip
    columns = ("step", "metric", "value", "low", "high", "source", "protocol", "protocol_digest",
               "n_samples", "device_hours")  # fmt: skip
    part = pd.DataFrame(rows, columns=columns)
    return _with_run(part, record)


def _with_run(part: pd.DataFrame, record: run_records.Record | None) -> pd.DataFrame:
    fixed = {"run": "", "config": "", "seed": 0, "digest": "", "pinned": False}
    if record:
        info = record.run.info
        fixed = {
            "run": record.label, "config": record.config.get("name", ""), "seed": record.run.seed,
            "digest": info["digest"], "pinned": bool(info.get("pinned")),
        }  # fmt: skip
    for position, (name, value) in enumerate(fixed.items()):
        part.insert(position, name, value)
    return part

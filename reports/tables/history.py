"""Figures over nights, with the points at which they changed.

The history folder holds one folder a night, named so that names sort by time
(2026-11-22), each with that night's runs anywhere below it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from harness import runs
from harness.base.errors import UsageError
from harness.base.wording import shown
from reports.reading import run_records
from reports.tables import changepoints, columns, comparison_tables

FIGURES = ("images_per_second", "step_ms", "peak_device_bytes", "peak_host_bytes", "loss")


@dataclass(frozen=True)
class History:
    """`figures`: night, `SERIES`, value, n; `changes`: where levels moved.

    A series is one (config, digest, device, kernels, figure): other configs, machines or
    protocols are other series, never one line. Several runs of a night are joined
    by their median.
    """

    figures: pd.DataFrame = field(repr=False)
    changes: pd.DataFrame = field(repr=False)


SERIES = ["config", "digest", "device", "kernels", "figure"]


def read(folder: Path) -> History:
    """Read every night under `folder`; UsageError if there is none."""
    nights = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    held = {night: sorted(p.parent for p in night.rglob("run.json")) for night in nights}
    found = {shown(night.name): paths for night, paths in held.items() if paths}
    if not found:
        raise UsageError(
            f"--history {folder} holds no nights",
            remedy="it should have one folder a night with that night's runs in it",
        )
    every = run_records.read([runs.load(path) for paths in found.values() for path in paths])
    by_path = {record.run.directory.resolve(): record for record in every}
    known = comparison_tables.columns_of(every)
    table = comparison_tables.comparison(every, known).set_index("run")
    wanted = [c.key for c in known if c.protocol or c.key in FIGURES]
    rows = []
    for night, paths in found.items():
        for path in paths:
            record = by_path[path.resolve()]
            rows += [
                {
                    "night": night, "config": record.config.get("name", ""),
                    "digest": record.run.info["digest"],
                    "device": f"{record.devices} x {record.device}",
                    "kernels": columns.kernels(record), "figure": key,
                    "value": float(table.at[record.label, key]),
                }
                for key in wanted if pd.notna(table.at[record.label, key])
            ]  # fmt: skip
    figures = pd.DataFrame(rows, columns=["night", *SERIES, "value"])
    figures = (
        figures.groupby(["night", *SERIES], sort=True)["value"].agg(["median", "count"])
        .rename(columns={"median": "value", "count": "n"}).reset_index()
    )  # fmt: skip
    return History(figures, _changes(figures))


def _changes(figures: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for key, series in figures.groupby(SERIES, sort=True):
        for change in changepoints.find(series["value"].to_numpy()):
            rows.append({
                "night": series["night"].iloc[change.index],
                **dict(zip(SERIES, key, strict=True)),
                "before": change.before, "after": change.after,
                "ratio": change.after / change.before if change.before else np.nan,
                "p_value": change.p_value,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=["night", *SERIES, "before", "after", "ratio", "p_value"])

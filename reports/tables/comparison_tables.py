"""The report's tables: pandas frames with machine-readable column names and full precision.

How a value is written for people is `reports.output.number_formats`' business.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness import configs, files
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables import comparability
from reports.tables.columns import BASE, Column, last_figure, quality_columns, scaling, summarise


def columns_of(records: list[Record]) -> list[Column]:
    """The comparison's columns: the fixed ones, then one per metric and protocol."""
    return [*BASE, *quality_columns(records)]


def comparison(records: list[Record], columns: list[Column]) -> pd.DataFrame:
    """One row a run. A quality column `X` has `X step`, `X low`, `X high` beside it."""
    rows = []
    for record in records:
        row = summarise(record)
        for column in columns:
            if not column.protocol:
                continue
            figure = last_figure(record, column)
            row[column.key] = figure.value if figure else np.nan
            row[f"{column.key} step"] = figure.step if figure else pd.NA
            row[f"{column.key} low"] = figure.low if figure else np.nan
            row[f"{column.key} high"] = figure.high if figure else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    table["scaling_efficiency"] = scaling(records)
    whole = [c for c in table if c.startswith("peak_") or c.endswith("] step")]
    return table.astype(dict.fromkeys(whole, "Int64"))


def ratios(
    records: list[Record], columns: list[Column], table: pd.DataFrame, reference: Record
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every figure divided by the reference run's, where the two are like for like.

    Returns (ratios, one row a run; what is not like for like: run, figure, value,
    reference_value, reason). A ratio that may not be taken is NaN in the first
    and a row of the second.
    """
    base = table.set_index("run").loc[reference.label]
    compared = [column for column in columns if column.group]
    rows, apart = [], []
    for record, (_, values) in zip(records, table.iterrows(), strict=True):
        row: dict[str, Any] = {"run": record.label}
        for column in compared:
            value, against = values[column.key], base[column.key]
            if pd.isna(value) or pd.isna(against):
                row[column.key] = np.nan
                continue
            why = comparability.reasons(record, reference, column)
            row[column.key] = np.nan if why else _quotient(value, against)
            if why:
                apart.append(_apart(record, column.key, value, against, "; ".join(why)))
        rows.append(row)
        apart += _other_protocols(record, reference, [c for c in columns if c.protocol])
    names = ["run", "figure", "value", "reference_value", "reason"]
    return pd.DataFrame(rows), pd.DataFrame(apart, columns=names)


def _quotient(value: float, against: float) -> float:
    return float(value) / float(against) if against else np.nan


def _apart(record: Record, figure: str, value: float, against: float, why: str) -> dict[str, Any]:
    return {
        "run": record.label, "figure": figure, "value": float(value),
        "reference_value": float(against), "reason": why,
    }  # fmt: skip


def _other_protocols(record: Record, reference: Record, columns: list[Column]) -> list[dict]:
    """The same metric made by another protocol than any of the reference's."""
    rows = []
    for column in columns:
        mine = last_figure(record, column)
        if not mine or last_figure(reference, column):
            continue
        for other in columns:
            theirs = last_figure(reference, other) if other.metric == column.metric else None
            if theirs:
                why = comparability.protocol_reason(mine.protocol, theirs.protocol)
                figure = f"{column.key} against {other.key}"
                rows.append(_apart(record, figure, mine.value, theirs.value, f"protocol: {why}"))
    return rows


def evaluations(records: list[Record]) -> pd.DataFrame:
    """Every figure of every evaluation, one a row."""
    names = figure_protocols.labels(f.protocol for record in records for f in record.figures)
    rows = [
        {
            "run": record.label, "step": f.step, "device_hours": record.hours_at(f.step),
            "metric": f.metric, "value": f.value, "low": f.low, "high": f.high,
            "n_samples": f.protocol.n_samples, "protocol": names[f.protocol.digest],
            "protocol_digest": f.protocol.digest,
        }
        for record in records
        for f in sorted(record.figures, key=lambda f: (f.protocol.digest, f.metric, f.step))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[
        "run", "step", "device_hours", "metric", "value", "low", "high", "n_samples", "protocol",
        "protocol_digest",
    ])  # fmt: skip


def protocol_entries(records: list[Record]) -> pd.DataFrame:
    """What every protocol consists of: one row per entry, one column per protocol."""
    found = {f.protocol.digest: f.protocol for record in records for f in record.figures}
    names = figure_protocols.labels(found.values())
    content = {
        names[digest]: configs.flat({"n_samples": p.n_samples, "digest": digest, **p.values})
        for digest, p in found.items()
    }
    return _side_by_side(content, "entry")


def differences(records: list[Record]) -> pd.DataFrame:
    """What is not the same in all runs: config keys, fingerprint entries, data, commit."""
    content = {}
    for record in records:
        info = record.run.info
        config = {key: value for key, value in record.config.items() if key != "description"}
        content[record.label] = configs.flat({
            "config": config, "fingerprint": record.fingerprint, "seed": record.run.seed,
            "data": comparability.data_identity(record), "commit": info.get("commit"),
            "digest": info["digest"],
        })  # fmt: skip
    table = _side_by_side(content, "key")
    if len(records) < 2:
        return table.iloc[:0]
    values = table.drop(columns="key").map(repr)
    return table[values.nunique(axis=1) > 1].reset_index(drop=True)


def _side_by_side(content: dict[str, dict[str, Any]], name: str) -> pd.DataFrame:
    keys = list(dict.fromkeys(key for values in content.values() for key in values))
    rows = [{name: key, **{who: v.get(key) for who, v in content.items()}} for key in keys]
    return pd.DataFrame(rows, columns=[name, *content], dtype=object)


def projection(
    records: list[Record], table: pd.DataFrame, price: float | None = None
) -> pd.DataFrame:
    """Time, device-hours and cost to the config's full steps, at the median step time.

    Training alone: evaluation, saving and interruptions are not in it.
    `price`: of one device for one hour. `table`: the comparison.
    """
    rows = []
    for record, step_ms in zip(records, table["step_ms"], strict=True):
        seconds, left = step_ms / 1e3, max(record.full_steps - record.step, 0)
        total = record.full_steps * seconds / 3600
        row = {
            "run": record.label, "steps": record.step, "full_steps": record.full_steps,
            "seconds_per_step": seconds, "hours_left": left * seconds / 3600,
            "hours_total": total, "devices": record.devices,
            "device_hours_total": total * record.devices,
        }  # fmt: skip
        if price is not None:
            row["cost_left"] = row["hours_left"] * record.devices * price
            row["cost_total"] = row["device_hours_total"] * price
        rows.append(row)
    return pd.DataFrame(rows)


def seed_groups(records: list[Record]) -> list[list[Record]]:
    """Runs that differ by training seed alone: config, data, stack and commit are equal."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        config = {k: v for k, v in record.config.items() if k not in ("name", "description")}
        config["train"] = {k: v for k, v in config["train"].items() if k != "seed"}
        identity = [config, record.fingerprint, comparability.data_identity(record),
                    record.run.info.get("commit")]  # fmt: skip
        key = files.json_digest(identity)
        groups.setdefault(key, []).append(record)
    return [g for g in groups.values() if len({record.run.seed for record in g}) > 1]


def over_seeds(
    records: list[Record], columns: list[Column], table: pd.DataFrame
) -> pd.DataFrame:
    """Mean and spread (standard deviation, n - 1) of runs that differ by seed alone."""
    rows = []
    for group in seed_groups(records):
        own = table[table["run"].isin([record.label for record in group])]
        for column in columns:
            if column.group in ("", "size"):
                continue
            alike = _alike(group, own, column)
            values = own[own["run"].isin([r.label for r in alike])][column.key].astype(float)
            if len(values) > 1:
                rows.append({
                    "config": own["config"].iloc[0], "figure": column.key, "n": len(values),
                    "mean": values.mean(), "sd": values.std(ddof=1), "min": values.min(),
                    "max": values.max(), "seeds": ", ".join(str(r.run.seed) for r in alike),
                })  # fmt: skip
    names = ["config", "figure", "n", "mean", "sd", "min", "max", "seeds"]
    return pd.DataFrame(rows, columns=names)


def _alike(group: list[Record], own: pd.DataFrame, column: Column) -> list[Record]:
    """The group's runs that have the figure, like for like with the one furthest on."""
    has = set(own.loc[own[column.key].notna(), "run"])
    there = [record for record in group if record.label in has]
    if not there:
        return []
    furthest = max(there, key=lambda record: record.step)
    return [r for r in there if not comparability.reasons(r, furthest, column)]

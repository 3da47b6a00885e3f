"""Two recorded baselines set against each other, figure by figure."""

from __future__ import annotations

from typing import Any

from baselines import check_table, metrics
from baselines.record import Baseline, named, other_machine
from harness import configs


def differences(a: Baseline, b: Baseline) -> dict[str, Any]:
    """`differs`: what the two were made from, key -> [a, b]; `metrics`: one row a metric.

    A row has a's and b's median and their `ratio`, or `reason` why they are not like for like.
    """
    one, other = a.content, b.content
    differing: dict[str, Any] = {
        key: [one[key], other[key]]
        for key in ("config", "digest", "step", "commit") if one[key] != other[key]
    }
    for part in ("fingerprint", "data"):
        found = configs.differences(one[part], other[part])
        differing |= {f"{part}.{key}": list(pair) for key, pair in found.items()}
    for seed in sorted(one["bits"].keys() & other["bits"].keys()):
        for key in ("loss", "weights", "ema"):
            pair = [_digest(c["bits"][seed][key]) for c in (one, other)]
            if pair[0] != pair[1]:
                differing[f"bits.{seed}.{key}"] = pair
    keys = list(dict.fromkeys([*one["metrics"], *other["metrics"]]))
    return {"differs": differing, "metrics": [_row(key, a, b) for key in keys]}


def _digest(value: Any) -> Any:
    return value["sha256"] if isinstance(value, dict) else value


def _row(key: str, a: Baseline, b: Baseline) -> dict[str, Any]:
    one, other = a.content["metrics"].get(key), b.content["metrics"].get(key)
    row = {
        "metric": key, "a": one and one["median"], "b": other and other["median"],
        "ratio": None, "reason": None,
    }
    if one is None or other is None:
        return {**row, "reason": f"not in {a.name if one is None else b.name}"}
    row["reason"] = _unlike(key, a, b)
    if row["reason"] is None and one["median"]:
        row["ratio"] = other["median"] / one["median"]
    return row


def _unlike(key: str, a: Baseline, b: Baseline) -> str | None:
    one, other = a.content["metrics"][key], b.content["metrics"][key]
    if found := configs.differences(one.get("protocol") or {}, other.get("protocol") or {}):
        return f"another protocol: {named(found)}"
    if key in metrics.MACHINE_METRICS:
        return other_machine(a.content["fingerprint"], b.content["fingerprint"])
    if a.step != b.step:
        return f"another step: {a.step} and {b.step}"
    return None


def describe(row: dict[str, Any]) -> str:
    """One line: both figures, and their ratio or why there is none."""
    figures = " -> ".join(check_table.figure(row["metric"], row[side]) or "none" for side in "ab")
    if row["reason"]:
        return f"{figures}   not comparable: {row['reason']}"
    return f"{figures}   x {row['ratio']:.3f}" if row["ratio"] is not None else figures

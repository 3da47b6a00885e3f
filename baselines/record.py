"""Recorded baselines: a small JSON file per config and machine, made from several runs.

    {"schema": 2, "name": ..., "config": "small", "digest": ..., "step": 300,
     "commit": ..., "data": {"images": 82783}, "fingerprint": {...},
     "runs": [{"name": ..., "seed": 1234}, ...],
     "bits": {"1234": {"weights": SHA-256, "ema": SHA-256, "loss": {"lines": 7, "sha256": ...,
              "anchors": [[step, loss as hex, SHA-256 of the lines so far], ...]}}},
     "metrics": {"throughput": {"unit": "images/s", "median": ..., "spread": ..., "n": 5,
                 "noise": ..., "values": [...], "seeds": [...], "error": ..., "protocol": ...}}}

`spread` is the sample standard deviation between runs, `noise` the median of the relative
spreads within them, `error` the figure's own standard error where the evaluation knows it. That of
throughput may have `conditions`: how far the machine was throttled or shared (disturbances.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines import disturbances, metrics, significance
from baselines.metrics import METRICS, Measured
from harness import configs, files, runs
from harness.base import kernel_choice
from harness.base.errors import DataError, UsageError

SCHEMA = 2  # 1 had digests of weights that no file had
FOLDER = Path("baselines/recorded")  # beside runs/ and data/; committed with the project
FEWEST, FEWEST_FOR_SPEED = 3, 5


@dataclass(frozen=True)
class Baseline:
    """A recorded baseline; `content` is the JSON file's."""

    content: dict[str, Any]

    @property
    def name(self) -> str:
        return self.content["name"]

    @property
    def step(self) -> int:
        return self.content["step"]


def record(
    found: Sequence[runs.Run], name: str, *, vouched: bool = False, bits: bool = True
) -> Baseline:
    """A baseline from at least 3 runs of one config on one machine (5 for throughput).

    UsageError if they are too few, not pinned (unless `vouched`, see baselines.gate) or not alike;
    DataError if they are broken or, unless `bits` are left out, do not agree in them.
    """
    if len({run.directory.resolve() for run in found}) < FEWEST:
        raise UsageError(f"a baseline needs at least {FEWEST} different runs, {len(found)} given")
    first = found[0]
    for run in found:
        _check_alike(run, first, vouched)
    step = metrics.last_step(first)
    measured = [metrics.measure(run, step) for run in found]
    for one in measured:
        if metrics.last_step(one.run) != step:
            raise UsageError(
                f"{one.run.directory} ends at step {metrics.last_step(one.run)}, "
                f"{first.directory} at step {step}"
            )
    content = {
        "schema": SCHEMA, "name": _checked_name(name), "config": first.info["config"]["name"],
        "digest": first.info["digest"], "step": step, "commit": first.info.get("commit"),
        "data": data_identity(first), "fingerprint": first.info["fingerprint"],
        "runs": [{"name": run.name, "seed": run.seed} for run in found],
        "bits": _agreed_bits(measured) if bits else {}, "metrics": _summaries(measured),
    }
    return Baseline(content)


def _check_alike(run: runs.Run, first: runs.Run, vouched: bool) -> None:
    if not vouched and not run.info.get("pinned"):
        raise UsageError(
            f"{run.directory} is not a run of a pinned config", remedy="run it without --set"
        )
    if not vouched:
        run.config  # noqa: B018 - refuses a run.json that was changed by hand
    if changes := run.stack_changes():
        raise UsageError(
            f"{run.directory} went on with another stack after step {changes[0]['step']}"
        )
    for what, differing in (
        ("config", configs.differences(run.info["config"], first.info["config"])),
        ("fingerprint", configs.differences(run.info["fingerprint"], first.info["fingerprint"])),
        ("data", other_data(data_identity(run), data_identity(first))),
    ):
        if differing:
            raise UsageError(
                f"{run.directory} and {first.directory} differ in {what}: {named(differing)}",
                remedy="record one baseline for each",
            )


def data_identity(run: runs.Run) -> dict[str, Any]:
    """What run.json says of the training data, without the place where it lay."""
    return {key: value for key, value in run.info.get("data", {}).items() if key != "directory"}


def other_data(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two `data_identity`s.

    The digest of everything may be known to one of them only (after `harness data check --full`,
    say); then the sampled digests decide, where both have one.
    """
    found = configs.differences(one, other)
    if None in found.get("digest", ()) and one.get("sampled_digest"):
        del found["digest"]
    return found


def other_machine(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Why times and bytes of two fingerprints may not be compared, or None."""
    found = {key: (one.get(key), other.get(key))
             for key in metrics.MACHINE_KEYS if one.get(key) != other.get(key)}
    return f"another machine: {named(found)}" if found else None


def named(differing: dict[str, tuple[Any, Any]], limit: int = 3) -> str:
    """`key (a, b)` for the first few of what configs.differences found."""
    shown = [f"{key} ({a!r}, {b!r})" for key, (a, b) in list(differing.items())[:limit]]
    more = f" and {len(differing) - limit} more" if len(differing) > limit else ""
    return ", ".join(shown) + more


def _agreed_bits(measured: Sequence[Measured]) -> dict[str, Any]:
    """Per seed, what all its runs agree on; DataError if two of them do not."""
    agreed: dict[str, Any] = {}
    for one in measured:
        if one.bits.broken:
            raise DataError(next(iter(one.bits.broken.values())))
        if not one.run.info.get("deterministic"):
            continue
        bits = {"weights": one.bits.weights, "ema": one.bits.ema, "loss": _curve(one.bits.loss)}
        known = agreed.setdefault(str(one.seed), bits)
        if known != bits:
            what = next(key for key in bits if known[key] != bits[key])
            raise DataError(
                f"two runs of seed {one.seed} do not agree in {what}: {one.run.directory} differs",
                remedy="`harness diff` names where; runs that do not repeat make no baseline",
            )
    return agreed


def _curve(curve: list[tuple[int, str]] | None) -> dict[str, Any] | None:
    if not curve:
        return None
    chained = metrics.chain(curve)
    stride = max(1, -(-len(curve) // metrics.ANCHORS))
    kept = sorted({*range(0, len(curve), stride), len(curve) - 1})
    anchors = [[*curve[i], chained[i][:16]] for i in kept]
    return {"lines": len(curve), "sha256": chained[-1], "anchors": anchors}


def _summaries(measured: Sequence[Measured]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for one in measured for key in one.values))
    found = {}
    for key in keys:
        having = [one for one in measured if key in one.values]
        fewest = FEWEST_FOR_SPEED if key == "throughput" else 1
        protocols = {files.canonical_json(one.values[key].protocol or {}) for one in having}
        if len(protocols) > 1:
            raise UsageError(f"the runs' figures of {key} were made by different protocols")
        for one in having:
            if not math.isfinite(one.values[key].value):
                raise DataError(f"{one.run.directory}: {key} is not a number")
        if len(having) >= fewest:
            found[key] = _summary(key, having)
    return found


def _summary(key: str, having: Sequence[Measured]) -> dict[str, Any]:
    values = [one.values[key] for one in having]
    numbers = [value.value for value in values]
    noises = [value.noise for value in values if value.noise is not None]
    errors = [value.error for value in values if value.error is not None]
    conditions = disturbances.of_runs([value.conditions or {} for value in values])
    return {
        "unit": METRICS[metrics.family(key)].unit,
        "median": significance.median(numbers),
        "spread": significance.deviation(numbers),
        "n": len(numbers),
        "noise": significance.median(noises) if noises else None,
        "error": max(errors) if errors else None,
        "values": numbers,
        "seeds": [one.seed for one in having],
        "protocol": values[0].protocol,
        **({"conditions": conditions} if conditions else {}),
    }


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            f"baseline name {name!r} is not usable as a file name",
            remedy="use letters, digits, dots, dashes and underscores",
        )
    return name


def save(baseline: Baseline, *, folder: Path = FOLDER, replace: bool = False) -> Path:
    """Write the baseline's file; UsageError if there is one of that name already."""
    path = folder / f"{baseline.name}.json"
    if path.exists() and not replace:
        raise UsageError(f"{path} exists", remedy="give another --name, or --replace")
    with files.writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        files.atomic_write_json(path, baseline.content)
    return path


def load(name_or_path: str, *, folder: Path = FOLDER) -> Baseline:
    """The baseline of that name, or in that file; UsageError if none, DataError if broken."""
    is_path = name_or_path.endswith(".json") or "/" in name_or_path
    path = Path(name_or_path) if is_path else folder / f"{name_or_path}.json"
    if not path.is_file():
        known = ", ".join(names(folder=folder)) or "none yet"
        raise UsageError(f"there is no baseline {name_or_path!r}", remedy=f"recorded: {known}")
    content = files.read_json(path)
    files.refuse_newer(content, SCHEMA, path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a baseline of schema {SCHEMA}",
                        remedy="record it again")
    for key, kind in (("name", str), ("config", str), ("digest", str), ("step", int),
                      ("fingerprint", dict), ("data", dict), ("runs", list), ("bits", dict),
                      ("metrics", dict)):
        if not isinstance(content.get(key), kind):
            raise DataError(f"{path} has no {key}")
    for key, summary in content["metrics"].items():
        _check_summary(path, key, summary)
    return Baseline({**content, "fingerprint": kernel_choice.filled(content["fingerprint"])})


def _check_summary(path: Path, key: str, summary: Any) -> None:
    if metrics.family(key) not in METRICS:
        raise DataError(f"{path}: unknown metric {key!r}")
    values = summary.get("values") if isinstance(summary, dict) else None
    sound = isinstance(values, list) and values and all(
        type(value) in (int, float) and math.isfinite(value) for value in values
    )
    seeds = summary.get("seeds") if sound else None
    conditions = (summary.get("conditions") or {}) if sound else {}
    if not isinstance(conditions, dict) or not all(map(files.is_number, conditions.values())):
        raise DataError(f"{path}: metric {key} has conditions that are not numbers")
    if not isinstance(values, list) or not isinstance(seeds, list) or len(seeds) != len(values):
        raise DataError(f"{path}: metric {key} has no finite values with their seeds")


def names(*, folder: Path = FOLDER) -> list[str]:
    """Names of the recorded baselines, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))

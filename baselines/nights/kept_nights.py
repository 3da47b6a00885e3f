"""What the nightly benchmark kept, one `Night` for each night of each runner.

    HISTORY/2026-11-22/a100/     a night of one runner (baselines.nightly)
      night.json                 {"schema": 1, "runner": "a100", "report": address or path}
      small-0/ ...               light copies of runs
      checks/small.json          what `harness check --json` said
      figures.json               this module's: all of the above that pages need, read once

Nights of before runners had a folder have their runs right below the night's; their runner is
called by its device. `figures.json` may be removed, and is then made anew.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baselines import check_table, disturbances, metrics, significance
from harness import files, runs
from harness.base import kernel_choice
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.base.wording import shown

SCHEMA = 1  # of night.json, which baselines.nightly writes
FIGURES_SCHEMA = 1
_LIMIT = 64 << 20  # of a figures.json: some 30 MB are known for 1,000 runs a night


@dataclass(frozen=True)
class Night:
    """One night of one runner.

    `stacks`: the fingerprints that its runs had. `cells`: what was measured, one for each config,
    digest, device and kernels: {config, digest, device, kernels, stack (index), commit, outcome,
    metrics: {key: {values (one a run), noise, conditions, verdict, reason, change, baseline}}}.
    """

    night: str
    runner: str
    report: str | None
    stacks: list[dict[str, Any]] = field(repr=False)
    cells: list[dict[str, Any]] = field(repr=False)


def read(history: Path) -> list[Night]:
    """Every night below `history`, by time and runner; UsageError if it holds none.

    DataError if a file there is not as it was written.
    """
    nights = sorted(p for p in history.iterdir() if p.is_dir()) if history.is_dir() else []
    found = [made for night in nights for made in of_night(night)]
    if not any(one.cells for one in found):
        raise UsageError(
            f"{history} holds no nights",
            remedy="it should have one folder a night, as `make nightly` keeps them",
        )
    return sorted((one for one in found if one.cells), key=lambda one: (one.night, one.runner))


def of_night(folder: Path) -> Iterator[Night]:
    """The nights, one a runner, in the folder of a date."""
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    runners = [path for path in below if (path / "night.json").is_file()]
    for path in runners:
        yield _read(path, shown(folder.name), [path])
    if others := [path for path in below if path not in runners]:
        yield _read(folder, shown(folder.name), others)


def _read(folder: Path, night: str, places: list[Path]) -> Night:
    """From figures.json if it is of the folders that are there, else from the runs."""
    names = sorted(shown(path.name) for place in places for path in
                   (place.iterdir() if place == folder else [place]) if path.is_dir())
    path = folder / "figures.json"
    if path.is_file():
        known = files.read_json(path, limit=_LIMIT)
        files.refuse_newer(known, FIGURES_SCHEMA, path)
        if not _sound(known):
            raise DataError(f"{path} is not as it was written", remedy="remove it: it is made anew")
        if known["folders"] == names:
            return _night(night, known)
    made = _measured(folder, night, places)
    if not made.cells:  # no night: a repository's own folder, say
        return made
    values = {"schema": FIGURES_SCHEMA, "folders": names, "runner": made.runner,
              "report": made.report, "stacks": made.stacks, "cells": made.cells}
    if not _sound(values):
        raise DataError(f"{folder}/checks or its runs have values that are none of a night's")
    text = files.canonical_json(values)
    with contextlib.suppress(EnvironmentFault):  # of a history that may only be read
        files.atomic_write_bytes(path, text + b"\n")
    # Its keys in the order in which every later build has them.
    return _night(night, files.parse_json(text, path))


def _night(night: str, known: dict[str, Any]) -> Night:
    return Night(night, known["runner"], known.get("report"), known["stacks"], known["cells"])


def _measured(folder: Path, night: str, places: list[Path]) -> Night:
    together: dict[tuple[str, ...], list[runs.Run]] = {}
    for place in places:
        for path in sorted(place.rglob("run.json")):
            run = runs.load(path.parent)
            stack = run.info["fingerprint"]
            device = f"{stack.get('world_size') or 1} x {stack.get('device') or 'unknown device'}"
            name = str(run.info["config"].get("name"))
            key = (name, run.info["digest"], device, kernel_choice.label(stack))
            together.setdefault(key, []).append(run)
    stacks: list[dict[str, Any]] = []
    cells = [_cell(folder, key, each, stacks) for key, each in together.items()]
    about = _about(folder / "night.json")
    runner = about.get("runner") or (cells[0]["device"] if cells else "")
    return Night(night, runner, about.get("report"), stacks, [c for c in cells if c["metrics"]])


def _cell(
    folder: Path, key: tuple[str, ...], each: list[runs.Run], stacks: list[dict[str, Any]]
) -> dict[str, Any]:
    config, digest, device, kernels = key
    stack = each[0].info["fingerprint"]
    if stack not in stacks:
        stacks.append(stack)
    check = _check(folder / "checks" / f"{config}.json") if "/" not in config else {}
    checked = {Path(str(path)).name for path in check.get("runs", [])}
    if not checked & {run.directory.name for run in each}:  # of the config's other kernels
        check = {}
    measured = _figures(each)
    for verdict in check.get("verdicts", []):
        if not isinstance(verdict, dict) or not isinstance(verdict.get("metric"), str):
            raise DataError(f"{folder}/checks/{config}.json has a verdict without its metric")
        one = measured.setdefault(verdict["metric"], {"values": []})
        told = {name: verdict.get(name) for name in ("verdict", "reason", "change", "baseline")}
        one |= {name: short(value) if files.is_number(value) else value
                for name, value in told.items() if value not in (None, "")}
    return {
        "config": config, "digest": digest, "device": device, "kernels": kernels,
        "stack": stacks.index(stack), "commit": each[0].info.get("commit") or "",
        "outcome": check.get("outcome"), "metrics": measured,
    }


def _figures(each: list[runs.Run]) -> dict[str, dict[str, Any]]:
    found: dict[str, list[metrics.Value]] = {}
    for run in each:
        steps = [one["step"] for one in (*run.metrics(), *run.results())
                 if type(one.get("step")) is int]
        for key, value in metrics.light_values(run, max(steps, default=0)).items():
            if files.is_number(value.value):
                found.setdefault(key, []).append(value)
    made = {}
    for key, values in found.items():
        noises = [value.noise for value in values if value.noise is not None]
        conditions = disturbances.of_runs([value.conditions or {} for value in values])
        made[key] = {
            "values": [short(value.value) for value in values],
            **({"noise": round(significance.median(noises), 5)} if noises else {}),
            **({"conditions": conditions} if conditions else {}),
        }
    return made


def _about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    about = files.read_json(path)
    files.refuse_newer(about, SCHEMA, path)
    if not isinstance(about, dict) or not all(
        isinstance(about.get(key), str | None) for key in ("runner", "report")
    ):
        raise DataError(f"{path} does not say whose night it is")
    return about


def _check(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    check = files.read_json(path)
    files.refuse_newer(check, check_table.SCHEMA, path)
    if not isinstance(check, dict) or not _typed(check, (("verdicts", list), ("runs", list))):
        raise DataError(f"{path} is not what `harness check --json` says")
    return check


def short(value: float) -> float | int:
    """Six significant digits: a picture shows fewer."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _sound(known: Any) -> bool:
    """Whether the values that pages are made of have their types."""
    if not isinstance(known, dict) or not _typed(known, (
        ("folders", list), ("runner", str), ("report", str | None), ("stacks", list),
        ("cells", list),
    )) or not all(isinstance(stack, dict) and _typed(stack, _NAMED) for stack in known["stacks"]):
        return False
    texts = [(key, str) for key in ("config", "digest", "device", "kernels", "commit")]
    for cell in known["cells"]:
        if not isinstance(cell, dict) or not _typed(
            cell, (*texts, ("stack", int), ("outcome", str | None), ("metrics", dict))
        ) or not 0 <= cell["stack"] < len(known["stacks"]):
            return False
        if not all(map(_sound_metric, cell["metrics"].values())):
            return False
    return True


_NAMED = [(f"package.{name}", str | None) for name in ("paddlepaddle", "paddlepaddle-gpu")]


def _typed(value: dict[str, Any], kinds: Iterable[tuple[str, Any]]) -> bool:
    return all(isinstance(value.get(key), kind) for key, kind in kinds)


def _sound_metric(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    get, conditions = one.get, one.get("conditions", {})
    values = get("values")
    if not isinstance(values, list) or not isinstance(conditions, dict):
        return False
    told = [value for key in ("noise", "change", "baseline") if (value := get(key)) is not None]
    numbers = [*values, *told, *conditions.values()]
    try:
        return (
            {*map(type, numbers)} <= {int, float} and math.isfinite(math.fsum(numbers))
            and isinstance(get("verdict"), str | None) and isinstance(get("reason"), str | None)
        )
    except OverflowError:  # of a whole number that no float holds
        return False

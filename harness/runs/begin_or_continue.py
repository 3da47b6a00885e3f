"""Beginning a run, going on with it, or clearing its place: who may use a directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from harness import configs, files
from harness.base.errors import EnvironmentFault, UsageError
from harness.runs.lock import locked
from harness.runs.run_directory import SCHEMA, Run, load, name


def create(
    directory: Path, config: configs.Config, seed: int, *, fingerprint: dict[str, Any],
    data: dict[str, Any], commit: str | None, imported: dict[str, Any] | None = None,
) -> Run:
    """Open the run in `directory` to continue it, or begin it there.

    `imported`: where the weights of its first checkpoint came from, if not from training.
    UsageError if another config, seed or other data began it, naming what differs, or
    if the directory holds something that is not a run. The caller holds the lock.
    """
    if (directory / "run.json").exists():
        run = load(directory)
        _refuse_other(run, config, seed)
        _refuse_other_data(run, data)
        _remove_leftovers(directory)
        return run
    _refuse_foreign(directory)
    info = {
        "schema": SCHEMA,
        "name": name(config, seed),
        "seed": seed,
        "digest": configs.digest(config),
        "pinned": configs.is_pinned(config),
        "deterministic": config.train.determinism == "on",
        "config": configs.resolved(config),
        "fingerprint": fingerprint,
        "data": data,
        "commit": commit,
        **({"imported": imported} if imported else {}),
    }
    files.atomic_write_json(directory / "run.json", info)
    return Run(directory, info)


def _refuse_other(run: Run, config: configs.Config, seed: int) -> None:
    differing = configs.differences(run.info["config"], configs.resolved(config))
    if run.seed != seed:
        differing["seed"] = (run.seed, seed)
    if differing:
        named = ", ".join(f"{k} ({a!r} there, {b!r} here)" for k, (a, b) in differing.items())
        raise UsageError(
            f"{run.directory} was begun with another config: {named}",
            remedy="give another --output-dir, or the run's own settings to continue it",
        )


def _refuse_other_data(run: Run, data: dict[str, Any]) -> None:
    """Continuing with other data would be another run. A digest decides where both have it."""
    before = run.info.get("data") or {}
    for key in ("digest", "sampled_digest"):
        if before.get(key) and data.get(key):
            if before[key] == data[key]:
                return
            raise UsageError(
                f"{run.directory} was begun with other data ({before.get('directory')}, "
                f"{key} {before[key][:12]}; here {data[key][:12]})",
                remedy="give the --data it was begun with, or another --output-dir",
            )


def _remove_leftovers(directory: Path) -> None:
    """Remove temporary files that a killed process left beside run.json and the logs."""
    for path in directory.glob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _refuse_foreign(directory: Path) -> None:
    try:
        # `lock` is ours: taken before the run is begun.
        foreign = [p.name for p in directory.iterdir() if p.name != "lock" and p.name[0] != "."]
    except FileNotFoundError:
        return
    except OSError as error:
        raise EnvironmentFault(f"cannot use {directory}: {error.strerror}") from error
    if foreign:
        raise UsageError(
            f"{directory} is not empty and not a run (it holds {sorted(foreign)[0]})",
            remedy="give another --output-dir; nothing there was touched",
        )


def remove(directory: Path) -> None:
    """Remove a run (`--overwrite`). UsageError if `directory` holds anything else."""
    if not directory.exists():
        return
    if not (directory / "run.json").is_file():
        _refuse_foreign(directory)
    with locked(directory), files.writing(directory):
        doomed = directory.with_name(f".{directory.name}.{os.getpid()}.removed")
        os.rename(directory, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

"""Finished runs in the real format, without training: for tests of the gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from harness import runs
from harness.runs import checkpoints
from tests.reports import fabricate

STEPS = 200
SPEEDS = (100.0, 100.4, 99.7, 100.1, 99.9)  # images/s of five undisturbed runs


def run(
    directory: Path, *, speed: float = 100.0, fid: float | None = 20.0, weights: float = 1.0,
    memory: float = 1.0, conditions: dict[str, float] | None = None,
    validation: tuple[float, float] | None = (0.25, 0.001), **more,
) -> runs.Run:
    """A run of `small` with a checkpoint and an evaluation at its last step."""
    fabricate.run(directory, steps=STEPS, images_per_second=speed, **more)
    if memory != 1.0:
        edit_lines(
            directory / "timing.jsonl",
            lambda line: {**line, "peak_host_bytes": int(line["peak_host_bytes"] * memory)},
        )
    if conditions:
        edit_lines(directory / "timing.jsonl", lambda line: {**line, **conditions})
    made = runs.load(directory)
    parts = {
        part: {"w": np.full(3, value, np.float32)}
        for part, value in (("model", weights), ("ema", weights / 2), ("optimizer", 0.0))
    }
    checkpoints.save(
        made.checkpoint(STEPS), checkpoints.Checkpoint(STEPS, parts, {}),
        config_digest=made.info["digest"], seed=made.seed, config=made.info["config"],
    )
    evaluate(directory, fid=fid, validation=validation)
    return runs.load(directory)


def evaluate(directory: Path, *, fid, validation=None, step: int = STEPS, **protocol) -> None:
    """An evaluation in place of the one that is there; `fid` may be anything that JSON can say."""
    name = protocol.get("name", fabricate.PROTOCOL["name"])
    shutil.rmtree(runs.load(directory).evaluation(step, name), ignore_errors=True)
    folder = fabricate.evaluate(directory, step, {"fid": None, "accuracy": None}, **protocol)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["fid"] = fid
    if validation:
        result["metrics"]["val_loss"] = validation[0]
        result["validation"] = {"loss": validation[0], "standard_error": validation[1]}
    (folder / "result.json").write_text(json.dumps(result))


def several(root: Path, name: str, *, speeds=SPEEDS, **more) -> list[runs.Run]:
    """Five runs that differ in speed only."""
    return [run(root / f"{name}{i}", speed=speed, **more) for i, speed in enumerate(speeds)]


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_lines(path: Path, change) -> None:
    lines = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

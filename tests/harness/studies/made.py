"""Studies of the tiny config, as files, and a stand-in for a stack that always fails."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.cases import content
from tests.fixtures import write_tiny_config

FAILS = """#!/bin/sh
echo "$@" >> "$0.notes"
echo "harness: error: what went wrong" >&2
exit %d
"""


def write_study(folder: Path, *more: str, seeds: str = "[1, 2]", steps: int = 6) -> Path:
    """study.toml in `folder`: the tiny config, no evaluation; `more` are lines at its end."""
    write_tiny_config(folder / "tiny.toml")
    path = folder / "study.toml"
    path.write_text("\n".join((
        'name = "small-table"', 'question = "What of it?"', 'configs = ["./tiny.toml"]',
        f"seeds = {seeds}", f"steps = {steps}", "evaluate = []", *more, "",
    )))
    return path


def failing(folder: Path, code: int = 4) -> Path:
    """An interpreter that fails with `code`, and notes how it was called."""
    path = folder / f"fails{code}"
    path.write_text(FAILS % code)
    path.chmod(0o755)
    return path


def bits(run: Path) -> tuple[bytes, dict]:
    """metrics.jsonl, and the digests of all that the newest checkpoint holds."""
    newest = max((run / "checkpoints").glob("[0-9]*"))
    return (run / "metrics.jsonl").read_bytes(), json.loads((newest / "manifest.json").read_text())


def evaluations(run: Path) -> dict[str, object]:
    """What a run's evaluations left, figures, features and grids, but for what a clock says."""
    return {
        str(path.relative_to(run)): content(path)
        for path in sorted(run.glob("eval/**/*")) if path.is_file()
    }

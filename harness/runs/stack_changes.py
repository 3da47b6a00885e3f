"""The stack that a run began with, and what of it has changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import configs, files
from harness.base import kernel_choice
from harness.base.errors import DataError, UsageError
from harness.runs.run_directory import Run, load


def stack_differences(run: Run, fingerprint: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entry -> (at the run's beginning, in `fingerprint`) where the two differ.

    What the run did not record (an older harness, an import) is not known to differ, except an
    environment variable: one that the harness did not know when the run began, it did not set.
    """
    recorded = run.info["fingerprint"]
    environment = any(key.startswith("env.") for key in recorded)  # an import has none
    found = configs.differences(recorded, fingerprint)
    return {
        key: values for key, values in found.items()
        if key in recorded or environment and key.startswith("env.")
    }


def note_stack(run: Run, step: int, fingerprint: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Record what differs in the stack that continues `run` after `step`; returns it.

    run.json's `stack_changes`: [{"step": 10, "differs": {"env.OMP_NUM_THREADS": ["1", "2"]}}],
    each against the stack that the run began with, {} where it came back to that.
    """
    differs = stack_differences(run, fingerprint)
    changes = [c for c in run.stack_changes() if c["step"] < step]
    former = changes[-1]["differs"] if changes else {}
    now = {key: list(values) for key, values in differs.items()}
    if now != former:
        changes.append({"step": step, "differs": now})
    if changes != run.stack_changes():
        run.info["stack_changes"] = changes
        files.atomic_write_json(run.directory / "run.json", run.info)
    return differs


def recorded_threads(directory: Path) -> int | None:
    """The thread count of the run in `directory`: what continues it must use to keep its bits."""
    try:
        threads = load(directory).info["fingerprint"].get("env.OMP_NUM_THREADS")
    except (UsageError, DataError):
        return None
    known = isinstance(threads, str) and threads.isascii() and threads.isdigit()
    return int(threads) if known and 0 < len(threads) < 5 else None


def recorded_computation(directory: Path) -> dict[str, str]:
    """Kernels and execution of the run in `directory`, for `computation.choose`; {} if none."""
    try:
        stack = load(directory).info["fingerprint"]
    except (UsageError, DataError):
        return {}
    choices = kernel_choice.CHOICES.items()
    return {name: stack[name] for name, all_ in choices if stack[name] in all_}

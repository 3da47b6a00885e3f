"""Evaluating a run on disk: its checkpoint's EMA weights, over one or several sampling seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.evaluate import Task, evaluate
from eval.protocols import Protocol
from harness import checkpoints, runs


def evaluate_run(
    run: runs.Run, *, protocol: Protocol, step: int | None = None, data: Path | None = None,
    vae: Path | None = None, reference: Path | None = None, weights: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run's checkpoint of `step` (default: the newest); see `evaluate`.

    UsageError if there is no such checkpoint.
    """
    step, manifest, ema = load_ema(run, step)
    data = data or Path(run.info["data"]["directory"])
    task = Task(
        run.config, protocol, data, run.evaluation(step, protocol.name), step, vae=vae,
        reference=reference, weights=weights,
    )
    return evaluate(task, ema, manifest["ema_digest"])


def load_ema(
    run: runs.Run, step: int | None
) -> tuple[int, dict[str, Any], dict[str, np.ndarray]]:
    """(step, checkpoint's manifest, EMA arrays) of a run's checkpoint."""
    step = run.chosen_step(step)
    directory = run.checkpoint(step)
    manifest = checkpoints.check(directory, parts=("ema",))
    found = checkpoints.load(directory, config_digest=run.info["digest"], parts=("ema",))
    return step, manifest, found.parts["ema"]


def repeats(results: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Mean and standard deviation of `metric` over evaluations that differ in sampling seed."""
    values = [result["metrics"][metric] for result in results]
    return {
        "metric": metric,
        "seeds": [result["protocol"]["seed"] for result in results],
        "values": values,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "covers": "sampling noise; not the training seed, nor the choice of captions",
    }

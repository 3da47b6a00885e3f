"""Evaluating a run on disk: its checkpoint's EMA weights, over one or several sampling seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval import protocols
from eval.evaluation.evaluate import Drawn, draw, evaluate, make_model, validation_loss
from eval.evaluation.evaluation_task import Task, open_captions
from eval.protocols import Protocol
from harness import files, runs
from harness.base import kernel_choice
from harness.base.errors import UsageError
from harness.distributed.process_group import World
from harness.runs import checkpoints


def evaluate_run(
    run: runs.Run, *, protocol: Protocol, step: int | None = None, repeats: int = 1,
    loss: dict[str, Any] | None = None, **places: Any,
) -> dict[str, Any] | None:
    """Evaluate a run's checkpoint of `step` (default: the newest); see `evaluate`.

    `places`: `data` (default: the run's own), `world` and the other things of `Task`, or None.
    Returns the first result, with `run`, `protocol_name`, `directory` and, for several repeats
    (sampling seeds from the protocol's on), `repeats`: each distance's mean and spread.
    The processes of `world` share the work; None where another one leads.
    UsageError if there is no such checkpoint.
    """
    step, manifest, ema = load_ema(run, step)
    results = []
    for seed in range(protocol.seed, protocol.seed + repeats):
        variant = protocols.reseeded(protocol, seed)
        task = task_of(run, step, variant, **places)
        if (result := evaluate(task, ema, manifest["ema_digest"], loss=loss)) is not None:
            results.append(result)
    if not results:  # another process leads, and has them
        return None
    for result in results:
        _refuse_otherwise_computed(result, run.directory)
    found = {
        "run": str(run.directory), "protocol_name": protocol.name, **results[0],
        "directory": str(run.evaluation(step, protocol.name)),
    }
    if repeats > 1:
        found["repeats"] = {
            name: spread(results, name) for name, value in results[0]["metrics"].items()
            if isinstance(value, float)
        }
        files.atomic_write_json(Path(found["directory"]) / "repeats.json", found["repeats"])
    return found


def task_of(
    run: runs.Run, step: int, protocol: Protocol, *, data: Path | None = None,
    world: World | None = None, **others: Any,
) -> Task:
    """The task of one evaluation of a run."""
    directory = run.evaluation(step, protocol.name)
    return Task(
        run.config, protocol, data or run.data_directory, directory, step,
        world=world or World.alone(), **others,
    )


def draw_of_run(
    run: runs.Run, *, protocol: Protocol, step: int | None, samples: int, **places: Any
) -> Drawn:
    """The first samples of what `evaluate_run` would evaluate; see `draw`."""
    step, manifest, ema = load_ema(run, step)
    task = task_of(run, step, protocol, **places)
    return draw(task, ema, manifest["ema_digest"], samples=samples)


def _refuse_otherwise_computed(result: dict[str, Any], directory: Path) -> None:
    """UsageError for a result of before that was not made by the kernels that are asked for."""
    made = kernel_choice.filled(result.get("execution") or {})
    for name, value in kernel_choice.asked().items():
        if made.get(name) != value:
            raise UsageError(
                f"{directory} has that result, made with {name} {made.get(name) or 'unknown'}, "
                f"not {value}",
                remedy=f"remove its directory under {directory}/eval to evaluate again",
            )


def loss_of_run(
    run: runs.Run, *, protocol: Protocol, step: int | None = None, data: Path | None = None,
    world: World | None = None,
) -> dict[str, Any] | None:
    """The validation loss alone, of the same images and noise as `evaluate_run`'s."""
    step, _, ema = load_ema(run, step)
    world = world or World.alone()
    data = data or run.data_directory
    task = Task(run.config, protocol, data, run.evaluations, step, world=world)
    loss = validation_loss(task, open_captions(task), make_model(run.config, ema))
    if not world.leads:
        return None
    return {
        "run": str(run.directory), "step": step, "protocol_name": protocol.name,
        "metrics": {"val_loss": loss["loss"]}, "validation": loss,
    }


def load_ema(
    run: runs.Run, step: int | None
) -> tuple[int, dict[str, Any], dict[str, np.ndarray]]:
    """(step, checkpoint's manifest, EMA arrays) of a run's checkpoint."""
    step = run.chosen_step(step)
    directory = run.checkpoint(step)
    manifest = checkpoints.read_manifest(directory)
    found = checkpoints.load(directory, config_digest=run.info["digest"], parts=("ema",))
    return step, manifest, found.parts["ema"]


def spread(results: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Mean and standard deviation of `metric` over evaluations that differ in sampling seed."""
    values = [result["metrics"][metric] for result in results]
    return {
        "seeds": [result["protocol"]["seed"] for result in results],
        "values": values,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "covers": "sampling noise; not the training seed, nor the choice of captions",
    }

"""Weights from elsewhere become a run that every other command accepts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import files, runs
from harness.base import fingerprint
from harness.configs import Config
from harness.conversion import weight_namings
from harness.files.foreign_weights import Tensors
from harness.runs import checkpoints
from harness.training.optimizer import AdamW
from harness.training.step import LossScale
from models import weights
from models.uvit import UViT


@dataclass(frozen=True)
class Plan:
    """What `harness import` was asked for; `step`: the training steps that the weights have had."""

    source: Path
    config: Config
    seed: int
    directory: Path
    step: int = 0
    data: Path | None = None


def import_run(plan: Plan) -> runs.Run:
    """Make the run `plan.directory` from `plan.source`, whole or not at all.

    Errors: UsageError (nothing to read, or the directory is taken), DataError (files broken,
    hostile, or of another model), EnvironmentFault (disk).
    """
    files.refuse_taken(plan.directory)
    section = plan.config.model.model_dump()
    model = UViT(**section)
    parameters = [name for name, _ in model.named_parameters()]
    found = weight_namings.read(plan.source, parameters)
    weight_namings.refuse_other_sizes(found, section)
    parts = _parts(found, model, plan.config)
    state: dict[str, Any] = {
        "loss_scale": LossScale().state() if plan.config.train.precision == "fp16" else None,
        **({"first_step": plan.step} if plan.step else {}),
    }
    checkpoint = checkpoints.Checkpoint(plan.step, parts, state)
    return _write(plan, checkpoint, found)


def _parts(
    found: weight_namings.Source, model: UViT, config: Config
) -> dict[str, dict[str, np.ndarray]]:
    """A checkpoint's parts; with one set of weights only, it is the EMA as well."""
    ema = _own(model, found.ema, str(found.files[-1])) if found.ema else None
    own = _own(model, found.weights, str(found.files[0]))
    optimizer = AdamW(dict(model.named_parameters()), config.optim)
    return {"model": own, "ema": own if ema is None else ema, "optimizer": optimizer.state()}


def _own(model: UViT, found: Tensors, where: str) -> dict[str, np.ndarray]:
    """`found` under the model's names and in its layout, float32, every one checked."""
    load = weights.load_official if found.layout == "torch" else weights.load_own
    load(model, found.arrays, where)
    return {name: p.astype("float32").numpy() for name, p in model.named_parameters()}


def _write(
    plan: Plan, checkpoint: checkpoints.Checkpoint, found: weight_namings.Source
) -> runs.Run:
    """Under a temporary name first: a run without its checkpoint would train from nothing."""
    with files.staged(plan.directory) as temporary:
        data = plan.data or Path("data") / plan.config.data.dataset
        run = runs.create(
            temporary, plan.config, plan.seed, fingerprint=fingerprint.collect(),
            data={"directory": str(data.resolve()), "images": None},
            commit=fingerprint.git_commit(),
            imported={
                "kind": found.kind,
                "step": checkpoint.step,
                "ema": found.ema is not None,
                "files": [
                    {"path": str(path), "sha256": files.sha256_file(path)} for path in found.files
                ],
            },
        )
        checkpoints.save(
            run.checkpoint(checkpoint.step), checkpoint,
            config_digest=run.info["digest"], seed=plan.seed, config=run.info["config"],
        )
    return runs.load(plan.directory)

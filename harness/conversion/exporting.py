"""A run becomes the folder that ppdiffusers' pipelines load."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from harness import files, runs
from harness.runs import checkpoints
from models.diffusion import Schedule
from models.pretrained import autoencoder, text_encoder
from models.pretrained import write_pipeline_folder as parts

SCHEMA = 1
NOTE = "harness.json"


@dataclass(frozen=True)
class Plan:
    """What `harness export` was asked for; `weights` is "ema" or "model" (the raw ones).

    `format` "ldm" is for LDMTextToImagePipeline with this project installed; "uvit" for
    LDMTextToImageUViTPipeline of an unmodified ppdiffusers, with nothing of ours.
    """

    run: runs.Run
    directory: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path | None = None
    model_max_length: int | None = None
    format: str = "ldm"
    step: int | None = None
    weights: str = "ema"


def export(plan: Plan) -> Path:
    """Write `plan.directory`, whole or not at all; returns it.

    Errors: UsageError (no such checkpoint, or the directory is taken), EnvironmentFault (a folder
    is missing, the disk), DataError (files broken, or the parts do not fit each other).
    """
    files.refuse_taken(plan.directory)
    config = plan.run.config
    step = plan.run.chosen_step(plan.step)
    length = plan.model_max_length or config.model.num_text_tokens
    vae = autoencoder.load(plan.vae)
    text = text_encoder.load(plan.text_encoder, plan.tokenizer, max_length=length)
    parts.require_fit(config.model.model_dump(), vae, text)
    found = checkpoints.load(
        plan.run.checkpoint(step), config_digest=plan.run.info["digest"], parts=(plan.weights,)
    )
    with files.staged(plan.directory) as temporary:
        _write(plan, temporary, vae, text, found.parts[plan.weights])
        files.atomic_write_json(temporary / NOTE, _note(plan, step, found.parts[plan.weights]))
    return plan.directory


def _write(
    plan: Plan, directory: Path, vae: autoencoder.Autoencoder, text: text_encoder.TextEncoder,
    arrays: dict[str, np.ndarray],
) -> None:
    config, uvit = plan.run.config, plan.format == "uvit"
    diffusion, scale = config.diffusion, config.diffusion.latent_scale
    encoder = "text_encoder" if uvit else "bert"
    unet = ("ppdiffusers", "UViTT2IModel") if uvit else ("models.pipeline", "UViTModel")
    parts.write_unet(directory / "unet", arrays, config.model.model_dump(), unet[1])
    parts.write_vae(
        directory / "vqvae", vae, latent_scale=scale,
        scale_as=parts.UVIT_PIPELINE_SCALE if uvit else scale,
    )
    parts.write_text_encoder(directory / encoder, text)
    parts.write_tokenizer(directory / "tokenizer", text)
    parts.write_scheduler(
        directory / "scheduler", Schedule.of(diffusion).betas,
        beta_start=diffusion.beta_start, beta_end=diffusion.beta_end, shifted=uvit,
    )
    index = {
        "_class_name": "LDMTextToImageUViTPipeline" if uvit else "LDMTextToImagePipeline",
        "_ppdiffusers_version": metadata.version("ppdiffusers"),
        encoder: ["ppdiffusers.transformers", "CLIPTextModel"],
        "scheduler": ["ppdiffusers", "DDIMScheduler"],
        "tokenizer": ["ppdiffusers.transformers", "CLIPTokenizer"],
        "unet": list(unet),
        "vqvae": ["ppdiffusers", "AutoencoderKL"],
    }
    files.atomic_write_json(directory / "model_index.json", index)


def _note(plan: Plan, step: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Where the folder came from, for whoever finds it."""
    info = plan.run.info
    return {
        "schema": SCHEMA,
        "format": plan.format,
        "run": plan.run.name,
        "step": step,
        "seed": plan.run.seed,
        "weights": plan.weights,
        "weights_digest": checkpoints.tensors_digest(arrays),
        "config": info["config"],
        "digest": info["digest"],
        "pinned": info["pinned"],
        "latent_scale": plan.run.config.diffusion.latent_scale,
    }

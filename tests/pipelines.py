"""A run with lively weights and a small VAE and the digits' text encoder: small, and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import runs
from harness.base import fingerprint
from harness.runs import checkpoints
from tests import assets
from tests.fixtures import tiny_config

ASSETS = assets.pipeline_folder()
# the digits' sizes; COCO's latent scale, so that the scale of ppdiffusers' U-ViT pipeline is wrong
CONFIG = tiny_config(
    "model.clip_dim=64", "model.num_text_tokens=12", "model.num_layers=4",
    "diffusion.latent_scale=0.2301",
)
PROMPTS = ["a handwritten seven", "the digit three"]


def official_weights() -> dict[str, np.ndarray]:
    """Official name -> array; close to a new model, every part of it alive."""
    from models import weights
    from models.uvit import UViT

    random = np.random.default_rng(5)
    return {
        name: (array + random.standard_normal(array.shape) * 0.02).astype(np.float32)
        for name, array in weights.to_official(UViT(**CONFIG.model.model_dump())).items()
    }


def write_run(directory: Path, *, config=CONFIG, seed: int = 1) -> runs.Run:
    """A run whose weights are not its EMA."""
    from models import weights
    from models.uvit import UViT

    model = UViT(**config.model.model_dump())
    weights.load_official(model, official_weights())
    ema = {name: p.numpy() for name, p in model.named_parameters()}
    run = runs.create(
        directory, config, seed, fingerprint=fingerprint.collect(), commit=None,
        data={"directory": str(ASSETS), "images": 0},
    )
    parts = {"model": {n: a * np.float32(1.01) for n, a in ema.items()}, "ema": ema,
             "optimizer": {}}
    checkpoints.save(
        run.checkpoint(3), checkpoints.Checkpoint(3, parts, {"loss_scale": None}),
        config_digest=run.info["digest"], seed=seed,
    )
    return run

"""Sample grids of the run_vis prompts, drawn from the EMA weights while a run trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval import protocols
from eval.sampling import image_grid, image_making, latent_sampling
from harness import data, runs
from harness.base.errors import DataError
from harness.configs import Config
from harness.training.step import Trainer
from models.uvit import UViT


def require(config: Config, directory: Path) -> None:
    """DataError now, before anything is trained, if run_vis/ cannot be used."""
    try:
        data.run_vis(directory, (config.model.num_text_tokens, config.model.clip_dim))
    except DataError as error:
        remedy = error.remedy or "extract or fetch it again, or give --no-eval"
        raise DataError(error.message, remedy=remedy) from error


def save(run: runs.Run, trainer: Trainer, directory: Path) -> None:
    """Sample the run_vis prompts from the EMA weights into the run's PNG; nothing if it is there.

    Sample j's noise is the same at every step and in every run, so grids can be
    laid side by side.
    """
    path = run.sample_grid(trainer.step)
    if trainer.world.lead(float(path.exists())):
        return
    with trainer.averaged() as averaged:
        if trainer.world.leads:
            _draw_grid(run.config, averaged, trainer.schedule.alphas_cumprod, directory, path)
    trainer.world.meet()


def _draw_grid(
    config: Config, model: UViT, alphas_cumprod: np.ndarray, directory: Path, path: Path
) -> None:
    from models.pretrained import autoencoder

    context_shape = (config.model.num_text_tokens, config.model.clip_dim)
    prompts, contexts = data.run_vis(directory, context_shape)
    if not prompts:
        return
    latents = latent_sampling.sample_latents(
        model, contexts, data.empty_context(directory, context_shape), range(len(prompts)),
        protocol=protocols.get(config.eval.train_protocol), alphas_cumprod=alphas_cumprod,
        batch_size=min(config.eval.batch_size, len(prompts)),
    )
    images = image_making.decode(
        autoencoder.load(directory / "vae"), latents,
        latent_scale=config.diffusion.latent_scale,
        batch_size=min(config.eval.decode_batch_size, len(prompts)),
    )
    image_grid.save_grid(np.asarray(images), path, columns=min(10, len(images)), prompts=prompts)

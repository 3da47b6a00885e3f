"""What happens beside training: sample grids of the run_vis prompts, and evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval import evaluate, grid, making, protocols, references, sampling
from harness import checkpoints, data, runs
from harness.configs import Config
from harness.errors import EnvironmentFault
from harness.step import Trainer
from harness.train import Hooks

_REMEDY = "put it there, or give --no-eval: `harness eval` can be run later"


def make(config: Config, directory: Path) -> Hooks:
    """The hooks that `config` asks for, over the data in `directory`.

    EnvironmentFault now, before anything is trained, if what they will need is
    missing: the VAE, the reference statistics, the Inception weights.
    """
    train = config.train
    images = 0 < train.image_steps <= train.max_steps
    evaluations = 0 < train.eval_steps <= train.max_steps or train.eval_at_start
    if images or evaluations:
        vae = directory / "vae"
        if not vae.is_dir():
            raise EnvironmentFault(f"the VAE {vae} is missing", remedy=_REMEDY)
    if evaluations:
        references.find(directory)
        if protocols.get(config.eval.train_protocol).features == "inception":
            from eval.inception import find_weights

            find_weights()

    def image(run: runs.Run, trainer: Trainer) -> None:
        save_sample_grid(run, trainer, directory)

    def evaluation(run: runs.Run, trainer: Trainer) -> None:
        evaluate_now(run, trainer, directory)

    return Hooks(image=image if images else None, evaluate=evaluation if evaluations else None)


def save_sample_grid(run: runs.Run, trainer: Trainer, directory: Path) -> None:
    """Sample the run_vis prompts from the EMA weights into the run's PNG; nothing if it is there.

    Sample j's noise is the same at every step and in every run, so grids can be
    laid side by side.
    """
    path = run.sample_grid(trainer.step)
    if path.exists():
        return
    from models import autoencoder

    config, model = run.config, run.config.model
    context_shape = (model.num_text_tokens, model.clip_dim)
    prompts, contexts = data.run_vis(directory, context_shape)
    if not prompts:
        return
    with trainer.ema.applied(trainer.model) as averaged:
        latents = sampling.sample_latents(
            averaged, contexts, data.empty_context(directory, context_shape),
            range(len(prompts)),
            protocol=protocols.get(config.eval.train_protocol),
            alphas_cumprod=trainer.schedule.alphas_cumprod,
            batch_size=min(config.eval.batch_size, len(prompts)),
        )
    images = making.decode(
        autoencoder.load(directory / "vae"), latents,
        latent_scale=config.diffusion.latent_scale, batch_size=config.eval.decode_batch_size,
    )
    grid.save_grid(np.asarray(images), path, columns=min(10, len(images)), prompts=prompts)


def evaluate_now(run: runs.Run, trainer: Trainer, directory: Path) -> None:
    """Evaluate the EMA weights as they are; a finished or begun evaluation is gone on with."""
    protocol = protocols.get(run.config.eval.train_protocol)
    task = evaluate.Task(
        run.config, protocol, directory, run.evaluation(trainer.step, protocol.name), trainer.step
    )
    average = trainer.ema.state()
    with trainer.ema.applied(trainer.model) as averaged:
        evaluate.evaluate(
            task, average, checkpoints.tensors_digest(average),
            model=averaged if str(averaged.dtype).endswith("float32") else None,
        )

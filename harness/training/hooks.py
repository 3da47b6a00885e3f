"""What happens beside training: sample grids of the run_vis prompts, and evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval import protocols
from eval.evaluation import evaluate
from eval.metrics import references
from eval.sampling import image_grid, image_making, latent_sampling
from harness import data, runs
from harness.base.errors import EnvironmentFault
from harness.configs import Config
from harness.runs import checkpoints
from harness.training.step import Trainer
from harness.training.train import Hooks
from models.uvit import UViT

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
            from eval.features.inception import find_weights

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


def evaluate_now(run: runs.Run, trainer: Trainer, directory: Path) -> None:
    """Evaluate the EMA weights as they are; a finished or begun evaluation is gone on with.

    Every process of a job makes its share of the samples.
    """
    world = trainer.world
    protocol = protocols.get(run.config.eval.train_protocol)
    task = evaluate.Task(
        run.config, protocol, directory, run.evaluation(trainer.step, protocol.name),
        trainer.step, world=world,
    )
    average = trainer.average()
    with trainer.averaged() as averaged:
        exact = str(averaged.dtype).endswith("float32")
        evaluate.evaluate(
            task, average, checkpoints.tensors_digest(average), model=averaged if exact else None
        )
    world.meet()

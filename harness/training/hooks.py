"""What happens beside training: sample grids of the run_vis prompts, and evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval import protocols
from eval.evaluation import evaluate
from eval.features import networks
from eval.metrics import feature_statistics, references
from eval.sampling import image_grid, image_making, latent_sampling
from harness import data, runs
from harness.base.errors import DataError, EnvironmentFault
from harness.base.wording import counted
from harness.configs import Config
from harness.runs import checkpoints
from harness.training.step import Trainer
from harness.training.train import Hooks
from models.uvit import UViT

_REMEDY = "put it there, or give --no-eval: `harness eval` can be run later"


def make(config: Config, directory: Path) -> Hooks:
    """The hooks that `config` asks for, over the data in `directory`.

    What they will need is read now, before anything is trained, though some of it is first due
    hours later: the prompts of run_vis/, the VAE, the val captions, the reference statistics.
    Inception's weights are only looked for. EnvironmentFault for what is missing, DataError for
    what is broken or does not fit.
    """
    train = config.train
    images = 0 < train.image_steps <= train.max_steps
    evaluations = 0 < train.eval_steps <= train.max_steps or train.eval_at_start
    if images or evaluations:
        vae = directory / "vae"
        if not vae.is_dir():
            raise EnvironmentFault(f"the VAE {vae} is missing", remedy=_REMEDY)
        _require_vae(config, vae)
    if images:
        _require_prompts(config, directory)
    if evaluations:
        _require_evaluation(config, directory)

    def image(run: runs.Run, trainer: Trainer) -> None:
        save_sample_grid(run, trainer, directory)

    def evaluation(run: runs.Run, trainer: Trainer) -> None:
        evaluate_now(run, trainer, directory)

    return Hooks(image=image if images else None, evaluate=evaluation if evaluations else None)


def _require_prompts(config: Config, directory: Path) -> None:
    try:
        data.run_vis(directory, (config.model.num_text_tokens, config.model.clip_dim))
    except DataError as error:
        remedy = error.remedy or "extract or fetch it again, or give --no-eval"
        raise DataError(error.message, remedy=remedy) from error


def _require_vae(config: Config, folder: Path) -> None:
    from models.pretrained import autoencoder

    channels = autoencoder.check(folder)
    if channels != config.model.in_channels:
        raise DataError(
            f"the VAE {folder} has {counted(channels, 'latent channel')}, the model "
            f"{config.model.in_channels}",
            remedy=_REMEDY,
        )


def _require_evaluation(config: Config, directory: Path) -> None:
    protocol = protocols.get(config.eval.train_protocol)
    captions = evaluate.open_captions(evaluate.Task(config, protocol, directory, directory, 0))
    captions.contexts(0, 1)
    reference = references.find(directory)
    if protocol.features == "inception":
        from eval.features import inception

        inception.find_weights()
        size = inception.SIZE
    else:
        size = networks.DigitsNetwork(directory).size
    feature_statistics.load(reference, size=size)


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

"""What happens beside training: sample grids of the run_vis prompts, and evaluations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from harness.base.errors import DataError, EnvironmentFault
from harness.base.wording import counted
from harness.configs import Config
from harness.training import evaluations, prompt_grids
from harness.training.train import Hooks

_REMEDY = "put it there, or give --no-eval: `harness eval` can be run later"


def make(config: Config, directory: Path) -> Hooks:
    """The hooks that `config` asks for, over the data in `directory`.

    What they will need is read now, before anything is trained, though some of it is first due
    hours later: the prompts of run_vis/, the VAE, the val captions, the reference statistics.
    Inception's weights are only looked for. EnvironmentFault for what is missing, DataError for
    what is broken or does not fit.
    """
    train = config.train
    draws = 0 < train.image_steps <= train.max_steps
    evaluates = 0 < train.eval_steps <= train.max_steps or train.eval_at_start
    if draws or evaluates:
        vae = directory / "vae"
        if not vae.is_dir():
            raise EnvironmentFault(f"the VAE {vae} is missing", remedy=_REMEDY)
        _require_vae(config, vae)
    if draws:
        prompt_grids.require(config, directory)
    if evaluates:
        evaluations.require(config, directory)

    return Hooks(
        image=partial(prompt_grids.save, directory=directory) if draws else None,
        evaluate=partial(evaluations.evaluate_now, directory=directory) if evaluates else None,
    )


def _require_vae(config: Config, folder: Path) -> None:
    from models.pretrained import autoencoder

    channels = autoencoder.check(folder)
    if channels != config.model.in_channels:
        raise DataError(
            f"the VAE {folder} has {counted(channels, 'latent channel')}, the model "
            f"{config.model.in_channels}",
            remedy=_REMEDY,
        )

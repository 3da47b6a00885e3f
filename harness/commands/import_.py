"""`harness import`: make a run from weights that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import ConfigName, directory_option, overrides_option


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--config", required=True, type=ConfigName(), metavar="CONFIG",
              help="The config that the weights were trained with (name or TOML file).")
@directory_option("-o", "--output-dir", required=True, help="The new run's directory.")
@click.option("--step", type=click.IntRange(0, 10**8 - 1), default=0, show_default=True,
              help="Training steps that the weights have had.")
@directory_option("--data", help="Features that `harness eval` and `harness sample` should use.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Default: the config's seed.")
@overrides_option
def command(
    source: Path, config: str, output_dir: Path, step: int, data: Path | None, seed: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Make a run (weights and EMA) from SOURCE. Prints the run's directory.

    \b
    SOURCE is one of
      nnet.pth, nnet_ema.pth, or the folder of both   the U-ViT authors' checkpoints
      model_state.pdparams, or its folder             PaddleMIX's trainer
      unet/, or the pipeline's folder                 ppdiffusers' UViTT2IModel, harness export
    """
    from harness import configs
    from harness.base import paddle_env

    loaded = configs.load(config, overrides)
    paddle_env.require_paddle()
    from harness.conversion import importing

    seed = loaded.train.seed if seed is None else seed
    run = importing.import_run(importing.Plan(source, loaded, seed, output_dir, step, data))
    click.echo(str(run.directory))

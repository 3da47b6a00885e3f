"""`harness export`: write a run as a ppdiffusers pipeline's folder."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import RunPath, directory_option


@click.command("export")
@click.argument("run", type=RunPath(path_type=Path))
@directory_option("-o", "--output-dir", required=True, help="The pipeline's folder, made anew.")
@directory_option("--vae", help="AutoencoderKL folder.  [default: vae/ beside the run's data]")
@directory_option(
    "--text-encoder", help="CLIPTextModel folder.  [default: text_encoder/ beside the run's data]"
)
@directory_option("--tokenizer", help="CLIPTokenizer folder.  [default: beside the text encoder]")
@click.option("--model-max-length", type=click.IntRange(min=2), metavar="N",
              help="Tokens a prompt is cut or padded to.  [default: what the model was trained on]")
@click.option("--format", "format_", type=click.Choice(["ldm", "uvit"]), default="ldm",
              show_default=True,
              help="ldm: LDMTextToImagePipeline, with this project installed; uvit: "
              "LDMTextToImageUViTPipeline of ppdiffusers alone.")
@click.option("--step", type=click.IntRange(min=0), help="Default: the newest checkpoint.")
@click.option("--weights", type=click.Choice(["ema", "model"]), default="ema", show_default=True)
def command(
    run: Path, output_dir: Path, vae: Path | None, text_encoder: Path | None,
    tokenizer: Path | None, model_max_length: int | None, format_: str, step: int | None,
    weights: str,
) -> None:
    """Write RUN as the folder that ppdiffusers' pipelines load. Prints the folder."""
    from harness import runs
    from harness.base import paddle_env

    found = runs.load(run)
    paddle_env.require_paddle()
    from harness.conversion import exporting

    data = found.data_directory
    plan = exporting.Plan(
        found, output_dir, vae or data / "vae", text_encoder or data / "text_encoder", tokenizer,
        model_max_length, format_, step, weights,
    )
    click.echo(str(exporting.export(plan)))

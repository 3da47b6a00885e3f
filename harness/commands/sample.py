"""`harness sample`: images of your own prompts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import (
    RunPath,
    directory_option,
    execution_option,
    file_option,
    kernels_option,
)


@click.command("sample")
@click.argument("source", metavar="RUN_OR_DIR", type=RunPath(path_type=Path))
@click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
@file_option("--prompts", "prompt_file", help="A UTF-8 file with a prompt a line.")
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=1, show_default=True,
              help="Images of each prompt.")
@click.option("--guidance", type=click.FloatRange(0.0, 1000.0), default=7.5, show_default=True,
              help="uncond + g * (cond - uncond); 1 is no guidance.")
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--sampler", type=click.Choice(["ddim", "dpm"]), default="ddim", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--tome", type=click.FloatRange(0.0, 0.75), default=0.0, show_default=True,
              metavar="RATIO", help="Share of the image tokens to merge around attention.")
@click.option("--tome-mlp", is_flag=True, help="Merge them around the MLP as well.")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=4, show_default=True,
              help="What the network runs at; it may change the last bits.")
@kernels_option
@execution_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path),
              help="FILE.png: one image, or a grid with a row a prompt. "
                   "A directory, without other images: 000000.png, ...")
@file_option("--latents", help="Also write noise, latents and images as .npz.")
@click.option("--step", type=click.IntRange(min=0), help="A run's checkpoint.  [default: newest]")
@directory_option("--data", help="A run's data, for its vae/, text_encoder/ and tokenizer/.")
@directory_option("--vae", help="AutoencoderKL folder, for a run.")
@directory_option("--text-encoder", help="CLIPTextModel folder, for a run.")
@directory_option("--tokenizer", help="CLIPTokenizer folder, for a run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    source: Path, prompts: tuple[str, ...], prompt_file: Path | None, count: int, guidance: float,
    steps: int, sampler: str, seed: int, tome: float, tome_mlp: bool, batch_size: int,
    kernels: str | None, execution: str | None, output: Path, latents: Path | None,
    step: int | None, as_json: bool, **folders: Path | None,
) -> None:
    """Draw images for PROMPTs from a run's EMA weights, or from an exported pipeline's folder.

    The same command gives the same images. Prints the paths written.
    """
    from harness import runs
    from harness.base import kernel_choice, paddle_env

    folder = (source / "model_index.json").is_file()
    if folder:
        _refuse_options_of_runs(source, {**folders, "step": step})
    run = None if folder else runs.load(source)
    kernel_choice.choose(kernels, execution)
    paddle_env.require_paddle()
    from eval.evaluation import sample_prompts

    asked = [*prompts, *(sample_prompts.read_prompts(prompt_file) if prompt_file else [])]
    request = sample_prompts.Request(
        asked, count, guidance, steps, sampler, seed=seed, tome=tome, tome_mlp=tome_mlp,
        batch_size=batch_size,
    )
    # Refused before anything is loaded.
    sample_prompts.check_output(output, sample_prompts.protocol_of(request).n_samples)
    if run is None:
        pipeline = sample_prompts.open_folder(source)
    else:
        pipeline = sample_prompts.open_run(
            run, step=step, data=folders["data"], vae=folders["vae"],
            text=folders["text_encoder"], tokenizer=folders["tokenizer"],
        )
    drawn = sample_prompts.draw(pipeline, request)
    written = sample_prompts.write(drawn, output, columns=count if len(asked) > 1 else None)
    if latents:
        written.append(sample_prompts.write_latents(drawn, latents))
    if as_json:
        click.echo(json.dumps({
            "written": [str(path) for path in written], **sample_prompts.describe(request),
            **kernel_choice.used(),
        }, indent=2))
    else:
        for path in written:
            click.echo(str(path))


def _refuse_options_of_runs(source: Path, options: dict[str, Path | int | None]) -> None:
    from harness.base.errors import UsageError

    given = [f"--{key.replace('_', '-')}" for key, value in options.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]} belongs to a run", remedy=f"{source} is a pipeline with its own parts"
        )

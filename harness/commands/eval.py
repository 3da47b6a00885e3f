"""`harness eval`: sample from a run's EMA weights and measure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from harness.commands import workers
from harness.commands.options import (
    NetworkName,
    directory_option,
    execution_option,
    file_option,
    json_option,
    kernels_option,
)


@click.command("eval")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--fid", is_flag=True, help="Sample, and measure the Frechet distance and the rest. "
              "Without it, only the validation loss is computed.")
@click.option("--step", type=click.IntRange(min=0), help="Checkpoint.  [default: the newest]")
@click.option("--protocol", help="A named protocol.  [default: the config's]")
@click.option("--n-samples", type=click.IntRange(min=1), help="Override the protocol's N.")
@click.option("--sampler", type=click.Choice(["ddim", "dpm"]), help="Override the sampler.")
@click.option("--num-inference-steps", "--steps", type=click.IntRange(min=1),
              help="Override the sampling steps.")
@click.option("--guidance-scale", type=float, help="Override g of uncond + g (cond - uncond).")
@click.option("--eta", type=click.FloatRange(0, 1), help="Override DDIM's eta.")
@click.option("--seed", type=click.IntRange(min=0), help="Override the noise's seed.")
@click.option("--caption-seed", type=click.IntRange(min=0), help="Override the captions' seed.")
@click.option("--tome", type=click.FloatRange(0, 0.75),
              help="Merge this share of the image tokens.")
@click.option("--tome-mlp", is_flag=True, default=None, help="Merge them around the MLP as well.")
@click.option("--repeats", type=click.IntRange(1, 100), default=1, show_default=True,
              help="Evaluate with this many sampling seeds, from the protocol's on.")
@directory_option("--data", help="Data directory.  [default: the run's own]")
@directory_option("--vae", help="AutoencoderKL folder.  [default: DATA/vae]")
@file_option("--reference", help="Statistics of real images (.npz).  [default: found in DATA]")
@file_option("--weights", help="Inception weights.  [default: where pytorch-fid looks]")
@directory_option("--clip", help="CLIPModel folder (paddlenlp): measure the CLIP score too.")
@click.option("--also", type=NetworkName("dinov2", "clip"), multiple=True,
              help="Measure by this feature network too, on the same images; FOLDER has its "
              "weights.  [default: where `harness fetch` puts them]")
@kernels_option
@execution_option
@workers.options
@json_option
def command(
    run: Path | None, fid: bool, step: int | None, protocol: str | None, repeats: int,
    data: Path | None, vae: Path | None, reference: Path | None, weights: Path | None,
    clip: Path | None, also, kernels: str | None, execution: str | None, job, as_json: bool,
    **overrides,
) -> None:
    """Evaluate RUN (default: the run under runs/ that was worked on last).

    Samples come from EMA weights for val captions. A protocol fixes everything
    else; an override gives the result another protocol name. With --fid the result
    is written to RUN/eval/; the same command again continues, or prints what is
    there. Several workers (--nproc 8) share the samples, and the figures are the same.
    """
    from harness import runs
    from harness.base import kernel_choice, paddle_env
    from harness.distributed import launch, process_group, rank_reports

    chosen = runs.load(run) if run else runs.newest()
    if not run and not process_group.started_by_launch():
        print(f"evaluating {chosen.directory}", file=sys.stderr)
    from eval import protocols

    pinned = protocols.get(
        protocol or chosen.config.eval.protocol, clip=clip is not None or None,
        also=tuple(name for name in protocols.ALSO if name in dict(also)), **overrides
    )
    kernel_choice.choose(kernels, execution)
    if job.wanted:
        name = f"eval-{chosen.name}"
        click.echo(launch.run(replace(job, name=name, threads=paddle_env.default_threads())))
        return
    # Alone, paddle is imported when something must be made; workers need it to meet.
    load = paddle_env.require_paddle if process_group.started_by_launch() else paddle_env.prepare
    load(deterministic=chosen.config.train.determinism == "on")
    from eval.evaluation import evaluate_run

    with process_group.joined() as world:
        if fid:
            found = evaluate_run.evaluate_run(
                chosen, protocol=pinned, step=step, data=data, vae=vae, reference=reference,
                weights=weights, clip=clip, repeats=repeats, world=world,
                also={name: folder for name, folder in also if folder},
            )
        else:
            found = evaluate_run.loss_of_run(
                chosen, protocol=pinned, step=step, data=data, world=world
            )
        if found is not None:
            rank_reports.result(json.dumps(found, indent=2) if as_json else describe(found))


def describe(found: dict) -> str:
    """A result as lines of text: every metric, its interval, and what it depends on."""
    lines = [f"{found['run']} step {found['step']}: {found['protocol_name']}"]
    metrics = found["metrics"]
    for name, value in metrics.items():
        if name.endswith("_interval") or value is None:
            continue
        interval = metrics.get(f"{name}_interval")
        sure = f"  (90 %: {interval[0]:.6g} to {interval[1]:.6g})" if interval else ""
        lines.append(f"  {name:<28} {value:.6g}{sure}")
    for name, spread in found.get("repeats", {}).items():
        if spread["std"] is not None:
            text = f"{spread['mean']:.6g} +- {spread['std']:.3g} over {len(spread['values'])} seeds"
            lines.append(f"  {name + ' (repeats)':<28} {text}")
    if directory := found.get("directory"):
        lines.append(f"  {directory}/result.json")
    return "\n".join(lines)

"""`harness eval`: sample from a run's EMA weights and measure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness.base.errors import UsageError
from harness.commands import workers
from harness.commands.options import (
    NetworkName,
    RunPath,
    directory_option,
    execution_option,
    file_option,
    json_option,
    kernels_option,
)


@click.command("eval")
@click.argument("run", required=False, type=RunPath(path_type=Path))
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
@click.option("--sweep", "axes", multiple=True, metavar="NAME=VALUES",
              help="Evaluate every combination: guidance=1..3:0.25, steps=10,25,50, "
              "sampler=ddim,dpm, eta=..., tome=... .")
@click.option("--checkpoints", metavar="all|every:K", help="Sweep over checkpoints too.")
@click.option("--budget", type=click.IntRange(min=1), metavar="SAMPLES",
              help="Of a sweep: drop hopeless points early, so that so many samples do.")
@click.option("--until-width", type=click.FloatRange(0, min_open=True), metavar="WIDTH",
              help="No more samples than make the distance's interval that narrow.")
@click.option("--against", metavar="RUN_B", type=click.Path(path_type=Path),
              help="Sample both runs in pairs until RUN is seen to be better, worse or equal.")
@click.option("--against-step", type=click.IntRange(min=0),
              help="Checkpoint of RUN_B.  [default: the newest]")
@click.option("--minimum-effect", type=click.FloatRange(0, 1), default=0.03, show_default=True,
              help="Share of RUN_B's distance within which the runs are equal.")
@click.option("--error-rate", type=click.FloatRange(0, 0.5, min_open=True), default=0.05,
              show_default=True, help="At most this share of verdicts is wrong.")
@kernels_option
@execution_option
@workers.options
@json_option
def command(
    run: Path | None, fid: bool, step: int | None, protocol: str | None, repeats: int,
    data: Path | None, vae: Path | None, reference: Path | None, weights: Path | None,
    clip: Path | None, also, axes: tuple[str, ...], checkpoints: str | None, budget: int | None,
    until_width: float | None, against: Path | None, against_step: int | None,
    minimum_effect: float, error_rate: float, kernels: str | None, execution: str | None, job,
    as_json: bool, **overrides,
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

    overrides["clip"] = clip is not None or None
    overrides["also"] = tuple(name for name in protocols.ALSO if name in dict(also))
    named = protocol or chosen.config.eval.protocol
    pinned = protocols.get(named, **overrides)
    points = _points(chosen, named, overrides, axes, checkpoints, step)
    if budget and not points:
        raise UsageError("--budget is of a sweep", remedy="give --sweep or --checkpoints")
    if sum(map(bool, (points, until_width, against, repeats > 1))) > 1:
        raise UsageError(
            "--sweep, --until-width, --against and --repeats are four questions",
            remedy="ask one at a time",
        )
    other = runs.load(against) if against else None
    if other:
        steps = (chosen.chosen_step(step), other.chosen_step(against_step))
    kernel_choice.choose(kernels, execution)
    if job.wanted:
        name = f"eval-{chosen.name}"
        click.echo(launch.run(replace(job, name=name, threads=paddle_env.default_threads())))
        return
    # Alone, paddle is imported when something must be made; workers need it to meet.
    load = paddle_env.require_paddle if process_group.started_by_launch() else paddle_env.prepare
    load(deterministic=chosen.config.train.determinism == "on")
    from eval.evaluation import enough_samples, evaluate_run

    with process_group.joined() as world:
        places: dict[str, Any] = {
            "data": data, "vae": vae, "reference": reference, "weights": weights, "clip": clip,
            "also": {name: folder for name, folder in also if folder}, "world": world,
        }
        if points or other:
            if points:
                said = _sweep(chosen, points, budget, places, as_json)
            else:
                limits = {"minimum_effect": minimum_effect, "error_rate": error_rate}
                said = _against((chosen, other), steps, pinned, {**limits, **places}, as_json)
            if said is not None:
                rank_reports.result(said)
            return
        if until_width:
            found = enough_samples.until_width(
                chosen, protocol=pinned, step=step, width=until_width, **places
            )
        elif fid:
            found = evaluate_run.evaluate_run(
                chosen, protocol=pinned, step=step, repeats=repeats, **places
            )
        else:
            found = evaluate_run.loss_of_run(
                chosen, protocol=pinned, step=step, data=data, world=world
            )
        if found is not None:
            rank_reports.result(json.dumps(found, indent=2) if as_json else describe(found))


def _points(run, protocol, overrides, axes, checkpoints, step) -> list:
    """The points of the sweep that was asked for; none where none was."""
    if not axes and not checkpoints:
        return []
    from eval.evaluation import sweep_axes

    if checkpoints and step is not None:
        raise UsageError("--step and --checkpoints both say what to evaluate", remedy="give one")
    steps = sweep_axes.checkpoints(checkpoints, run.checkpoint_steps(), run.chosen_step(step))
    return sweep_axes.points(protocol, overrides, sweep_axes.parse(axes), steps)


def _sweep(run, points, budget, places, as_json: bool) -> str | None:
    """Make a sweep and its page; what is printed of it (None where another process leads)."""
    from eval.evaluation import sweep
    from eval.sampling import finished_blocks
    from harness import files
    from reports import build
    from reports.output import image_rows, sweep_page

    found = sweep.sweep(run, points, budget=budget, **places)
    if found is None:
        return None
    folder = run.evaluations / sweep.name(run, points, budget)
    files.atomic_write_json(folder / "sweep.json", found)
    order = dict.fromkeys([found["chosen"], *found["front"], *range(len(points))])
    shown = [i for i in order if "halves" in found["points"][i]][: image_rows.MOST_ROWS]
    images = {
        i: finished_blocks.shown(
            run.evaluation(points[i].step, points[i].protocol.name) / "features",
            len(found["prompts"]),
        )
        for i in shown
    }
    page = build.write(sweep_page.files(found, images), folder)
    if as_json:
        return json.dumps({**found, "directory": str(folder)}, indent=2)
    return f"{sweep_page.lead(found)}\n  {folder}/sweep.json\n  {page}"


def _against(pair, steps, protocol, settings, as_json: bool) -> str | None:
    """Compare two runs, with a page (None where another process leads)."""
    from eval.evaluation import paired_comparison
    from eval.sampling import finished_blocks
    from harness import files
    from reports import build
    from reports.output import against_page

    found = paired_comparison.compare(*pair, protocol=protocol, steps=steps, **settings)
    if found is None:
        return None
    folder = pair[0].evaluations / paired_comparison.name(found, pair[1])
    files.atomic_write_json(folder / "against.json", found)
    images = {
        f"{side}: {run.name}, step {step}": finished_blocks.shown(
            run.evaluation(step, protocol.name) / "features", len(found["prompts"])
        )
        for side, run, step in zip("AB", pair, steps, strict=True)
    }
    page = build.write(against_page.files(found, images), folder)
    if as_json:
        return json.dumps({**found, "directory": str(folder)}, indent=2)
    return f"{against_page.lead(found)}\n  {folder}/against.json\n  {page}"


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

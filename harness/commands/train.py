"""`harness train`: train a pinned config, or continue where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from harness.commands import workers
from harness.commands.options import (
    config_argument,
    directory_option,
    execution_option,
    kernels_option,
    overrides_option,
)


@click.command("train")
@config_argument
@directory_option(
    "--data", help="Features in coco256_features' layout.  [default: data/coco256_features]"
)
@directory_option("--output-dir", help="The run's own directory.  [default: runs/<name>]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Default: the config's seed.")
@overrides_option
@click.option(
    "--workers", "threads", type=click.IntRange(0, 256),
    help="Threads that draw samples; changes no bit.  [default: the config's data.num_workers]",
)
@click.option(
    "--until", type=click.IntRange(min=1), metavar="STEP",
    help="Stop after STEP with a checkpoint, sooner than the config says; go on at any time.",
)
@kernels_option
@execution_option
@workers.options
@click.option(
    "--report-to", multiple=True, type=click.Choice(["visualdl", "tensorboard", "wandb", "none"]),
    help="Curves while it trains, in the run's live/<name>/; may be repeated.  [default: none]",
)
@click.option("--no-eval", is_flag=True, help="No sample grids and no evaluation on the way.")
@click.option("--overwrite", is_flag=True, help="Remove what the run's directory holds first.")
@click.option("--dry-run", is_flag=True, help="Check config and data, print the plan, and stop.")
def command(
    config: str, data: Path | None, output_dir: Path | None, seed: int | None,
    overrides: tuple[str, ...], threads: int | None, until: int | None, kernels: str | None,
    execution: str | None, job, report_to: tuple[str, ...], no_eval: bool, overwrite: bool,
    dry_run: bool,
) -> None:
    """Train CONFIG (a shipped name or a TOML file).

    The same command again continues from the newest valid checkpoint, to the same
    bits. Prints the run's directory.

    \b
    One machine, eight GPUs:   harness train CONFIG --nproc 8
    Two machines, on each:     harness train CONFIG --nproc 8 --nnodes 2 --master HOST:PORT
    """
    from harness import configs, runs
    from harness.base import kernel_choice, paddle_env
    from harness.distributed import process_group, rank_reports
    from harness.training.curves import writers

    loaded = configs.load(config, overrides)
    seed = loaded.train.seed if seed is None else seed
    directory = output_dir or runs.ROOT / runs.name(loaded, seed)
    data = data or Path("data") / loaded.data.dataset
    if dry_run:
        _print_plan(loaded, seed, directory, data)
        return
    # A run keeps the kernels and the threads that it began with: its bits depend on them.
    recorded = {} if overwrite else runs.recorded_computation(directory)
    kernel_choice.choose(kernels, execution, recorded)
    kinds = tuple(kind for kind in dict.fromkeys(report_to) if kind != "none")
    writers.require(kinds)
    if job.wanted:
        _launch(job, loaded, directory)
        return
    paddle_env.require_paddle(
        deterministic=loaded.train.determinism == "on", recorded=runs.recorded_threads(directory)
    )
    from harness.training import hooks, train

    with process_group.joined() as world:
        if overwrite and world.leads:
            runs.remove(directory)
        beside = train.Hooks if no_eval else partial(hooks.make, loaded, data)
        threads = loaded.data.num_workers if threads is None else threads
        train.train(train.Plan(
            loaded, seed, directory, data, threads, beside, until, kinds, world))
        if world.leads:
            rank_reports.result(str(directory))


def _launch(job, config, directory: Path) -> None:
    """Start the workers, each with this same command line, and print the run's directory."""
    from harness import runs
    from harness.base import paddle_env
    from harness.distributed import launch, process_group

    world = process_group.World(0, job.nproc * job.nnodes)
    # Refused here, once, rather than by every worker.
    process_group.local_share(config.train.global_batch_size, config.train.micro_batch_size, world)
    # A run keeps the thread count that it began with, because its bits depend on it.
    threads = runs.recorded_threads(directory)
    if config.train.reduction == "fixed-order":
        process_group.check_shards(config.train.shards, world)
        threads = threads or paddle_env.default_threads()
    launch.run(replace(job, name=directory.name, threads=threads))
    click.echo(str(directory))


def _print_plan(config, seed: int, directory: Path, data: Path) -> None:
    from harness import configs
    from harness import data as training_data

    source = training_data.open_source(config, seed, data)
    train = config.train
    plan = {
        "run": str(directory),
        "digest": configs.digest(config),
        "pinned": configs.is_pinned(config),
        "seed": seed,
        "data": str(data),
        "images": len(source.split),
        "steps": train.max_steps,
        "steps_per_epoch": source.sampling.steps_per_epoch,
        "samples": train.max_steps * train.global_batch_size,
        "micro_batches_per_step": -(-train.global_batch_size // train.micro_batch_size),
        "resumes": (directory / "run.json").exists(),
    }
    click.echo(json.dumps(plan, indent=2))

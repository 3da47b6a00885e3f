"""`harness train`: train a pinned config, or continue where it stopped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from harness.commands.options import config_argument, directory_option, overrides_option


@click.command("train")
@config_argument
@directory_option(
    "--data", help="Features in coco256_features' layout.  [default: data/coco256_features]"
)
@directory_option("--output-dir", help="The run's own directory.  [default: runs/<name>]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Default: the config's seed.")
@overrides_option
@click.option(
    "--workers", type=click.IntRange(0, 256),
    help="Threads that draw samples; changes no bit.  [default: the config's data.num_workers]",
)
@click.option(
    "--until", type=click.IntRange(min=1), metavar="STEP",
    help="Stop after STEP with a checkpoint, sooner than the config says; go on at any time.",
)
@click.option("--nproc", type=click.IntRange(1, 1024), help="Workers on this machine.")
@click.option("--nnodes", type=click.IntRange(1, 4096), default=1, help="Machines in the job.")
@click.option("--master", metavar="HOST:PORT", help="The first machine's address, with --nnodes.")
@click.option("--ips", metavar="HOST,...", help="All machines' addresses (paddle's --ips).")
@click.option("--devices", metavar="0,2", help="GPUs to use here.")
@click.option(
    "--max-restarts", type=click.IntRange(0, 1000), default=0,
    help="Start the job again so often if a worker dies.",
)
@click.option("--no-eval", is_flag=True, help="No sample grids and no evaluation on the way.")
@click.option("--overwrite", is_flag=True, help="Remove what the run's directory holds first.")
@click.option("--dry-run", is_flag=True, help="Check config and data, print the plan, and stop.")
def command(
    config: str, data: Path | None, output_dir: Path | None, seed: int | None,
    overrides: tuple[str, ...], workers: int | None, until: int | None, nproc: int | None,
    nnodes: int, master: str | None, ips: str | None, devices: str | None, max_restarts: int, no_eval: bool,
    overwrite: bool, dry_run: bool,
) -> None:
    """Train CONFIG (a shipped name or a TOML file).

    The same command again continues from the newest valid checkpoint, to the same
    bits. Prints the run's directory.

    \b
    One machine, eight GPUs:   harness train CONFIG --nproc 8
    Two machines, on each:     harness train CONFIG --nproc 8 --nnodes 2 --master HOST:PORT
    """
    from harness import configs, environment, parallel, runs

    loaded = configs.load(config, overrides)
    seed = loaded.train.seed if seed is None else seed
    directory = output_dir or runs.ROOT / runs.name(loaded, seed)
    data = data or Path("data") / loaded.data.dataset
    if dry_run:
        _print_plan(loaded, seed, directory, data)
        return
    if (nproc or nnodes > 1 or devices or max_restarts) and not parallel.started_by_launch():
        _launch(
            loaded, directory, nproc=nproc or _count(devices), nnodes=nnodes, master=master,
            ips=ips, devices=devices, max_restarts=max_restarts,
        )
        return
    # A run keeps the thread count that it began with, because its bits depend on it.
    environment.require_paddle(
        deterministic=loaded.train.determinism == "on", recorded=runs.recorded_threads(directory)
    )
    from harness import hooks, train

    world = parallel.join()
    if overwrite and world.leads:
        runs.remove(directory)
    beside = train.Hooks if no_eval else partial(hooks.make, loaded, data)
    workers = loaded.data.num_workers if workers is None else workers
    train.train(train.Plan(loaded, seed, directory, data, workers, beside, until, world))
    if world.leads:
        click.echo(str(directory))


def _count(devices: str | None) -> int:
    return len(devices.split(",")) if devices else 1


def _launch(config, directory: Path, *, nproc: int, nnodes: int, **options) -> None:
    """Start the workers, each with this same command line, and print the run's directory."""
    import sys

    from harness import launch, parallel
    from harness.errors import UsageError

    if nnodes > 1 and not options["master"]:
        raise UsageError("--nnodes needs --master HOST:PORT", remedy="the first machine's address")
    world = parallel.World(0, nproc * nnodes)
    # Refused here, once, rather than by every worker.
    parallel.local_share(config.train.global_batch_size, config.train.micro_batch_size, world)
    if config.train.reduction == "fixed-order":
        parallel.check_shards(config.train.shards, world)
    launch.run(launch.Job(tuple(sys.argv[1:]), nproc=nproc, nnodes=nnodes, **options))
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

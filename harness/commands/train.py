"""`harness train`: train a pinned config, or continue where it stopped."""

from __future__ import annotations

import json
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
    help="Stop after this step, with a checkpoint; without it the same command goes on.",
)
@click.option("--no-eval", is_flag=True, help="No sample grids and no evaluation on the way.")
@click.option("--overwrite", is_flag=True, help="Remove what the run's directory holds first.")
@click.option("--dry-run", is_flag=True, help="Check config and data, print the plan, and stop.")
def command(
    config: str, data: Path | None, output_dir: Path | None, seed: int | None,
    overrides: tuple[str, ...], workers: int | None, until: int | None, no_eval: bool,
    overwrite: bool, dry_run: bool,
) -> None:
    """Train CONFIG (a shipped name or a TOML file).

    The same command again continues from the newest valid checkpoint, to the same
    bits. Prints the run's directory.
    """
    from harness import configs, environment, runs

    loaded = configs.load(config, overrides)
    seed = loaded.train.seed if seed is None else seed
    directory = output_dir or runs.ROOT / runs.name(loaded, seed)
    data = data or Path("data") / loaded.data.dataset
    if dry_run:
        _print_plan(loaded, seed, directory, data)
        return
    # A run keeps the thread count that it began with, because its bits depend on it.
    environment.require_paddle(
        deterministic=loaded.train.determinism == "on", recorded=runs.recorded_threads(directory)
    )
    from harness import hooks, train

    if overwrite:
        runs.remove(directory)
    beside = train.Hooks() if no_eval else hooks.make(loaded, data)
    workers = loaded.data.num_workers if workers is None else workers
    run = train.train(train.Plan(loaded, seed, directory, data, workers, beside, until))
    click.echo(str(run.directory))


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

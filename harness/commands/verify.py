"""`harness verify`: repeat part of a run and say whether it comes out the same."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import (
    RunPath,
    directory_option,
    execution_option,
    json_option,
    kernels_option,
)


@click.command("verify")
@click.argument("run", type=RunPath(path_type=Path), metavar="RUN")
@click.option("--steps", type=click.IntRange(1), metavar="N",
              help="How many steps to repeat.  [default: all that were recorded]")
@click.option("--from", "start", type=click.IntRange(0), metavar="STEP",
              help="Begin at this step's checkpoint.  [default: the start]")
@directory_option("--data", help="The training data.  [default: where the run read them]")
@kernels_option
@execution_option
@json_option
def command(
    run: Path, steps: int | None, start: int | None, data: Path | None, kernels: str | None,
    execution: str | None, as_json: bool,
) -> None:
    """Repeat part of RUN on this machine and compare it with what was recorded.

    Losses are compared at every logged step, weights, EMA and optimizer at every
    checkpoint: bit for bit on the stack that the run was made on, within tolerance on
    another one, which is named. Also says what in RUN contradicts itself. Nothing is
    written. Exit code 3 if anything differs.
    """
    from harness import runs
    from harness.base import kernel_choice, paddle_env

    recorded = runs.load(run)
    deterministic = recorded.info.get("deterministic") is not False
    kernel_choice.choose(kernels, execution, runs.recorded_computation(run))
    paddle_env.require_paddle(
        deterministic=deterministic, recorded=runs.recorded_threads(run)
    )
    from harness.base.errors import GateFailed
    from harness.reproduction import divergence, run_again

    report = run_again.verify(recorded, data_directory=data, start=start, steps=steps)
    click.echo(json.dumps(report, indent=2) if as_json else run_again.text(report))
    if report["verdict"] == divergence.DIFFERENT:
        raise GateFailed(f"{run} does not come out as it was recorded")

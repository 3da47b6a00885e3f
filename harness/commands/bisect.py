"""`harness bisect`: find the commit, or the Paddle, that made a metric worse."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import (
    config_argument,
    directory_option,
    execution_option,
    json_option,
    kernels_option,
    overrides_option,
)


@click.command("bisect")
@config_argument
@click.option("--good", metavar="REV", help="A commit at which all was well.")
@click.option("--bad", metavar="REV", help="A later commit at which it is not.")
@click.option("--paddle", "paddles", multiple=True, metavar="PADDLE",
              help="In place of commits: a version of Paddle, a wheel's file or the Python of an "
              "environment; repeated, from a good one to a bad one.")
@click.option("--metric", type=click.Choice(["throughput", "loss"]), required=True)
@directory_option("--data", required=True, help="Features to train on.")
@click.option("--until", type=click.IntRange(min=1), default=100, show_default=True,
              metavar="STEP", help="Every run stops after this step.")
@overrides_option
@kernels_option
@execution_option
@json_option
def command(
    config: str, good: str | None, bad: str | None, paddles: tuple[str, ...], metric: str,
    data: Path, until: int, overrides: tuple[str, ...], kernels: str | None,
    execution: str | None, as_json: bool,
) -> None:
    """Find the first commit, or the first Paddle, with which CONFIG trains worse than before.

    Runs `git bisect run` with the gate as its test, in a work tree of its own. Throughput
    takes 5 runs a commit, loss 1. A commit that does not train is skipped.

    \b
    Commits:  harness bisect CONFIG --good REV --bad REV --metric loss --data DIR
    Paddle:   harness bisect CONFIG --paddle 2.6.2 --paddle 3.0.0 --paddle 3.3.1 \\
                  --metric throughput --kernels paddle --data DIR
    """
    from baselines import bisect, bisect_paddles
    from harness.base.errors import UsageError
    from harness.cells import run_cells as cells

    arguments = cells.given(kernels=kernels, execution=execution)
    if paddles and not (good or bad):
        if len(paddles) < 2:
            raise UsageError("one Paddle alone is nothing to search", remedy="give a good one "
                             "first and a bad one last: --paddle 3.2.0 --paddle 3.3.1")
        found = bisect_paddles.bisect(config, data, paddles, metric=metric, until=until,
                                      overrides=overrides, arguments=arguments)
    elif good and bad and not paddles:
        found = bisect.bisect(config, data, metric=metric, until=until, good=good, bad=bad,
                              overrides=overrides, arguments=arguments)
    else:
        raise UsageError("give --good and --bad, or --paddle at least twice")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif "commit" in found:
        click.echo(f"{found['commit']} {found['subject']}")
    elif "paddle" in found:
        click.echo(found["paddle"])
    else:
        click.echo("one of these (the others could not be told):")
        click.echo("\n".join(found["candidates"]))

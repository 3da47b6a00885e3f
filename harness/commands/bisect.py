"""`harness bisect`: find the commit that made a metric worse."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import (
    config_argument,
    directory_option,
    json_option,
    overrides_option,
)


@click.command("bisect")
@config_argument
@click.option("--good", required=True, metavar="REV", help="A commit at which all was well.")
@click.option("--bad", required=True, metavar="REV", help="A later commit at which it is not.")
@click.option("--metric", type=click.Choice(["throughput", "loss"]), required=True)
@directory_option("--data", required=True, help="Features to train on.")
@click.option("--until", type=click.IntRange(min=1), default=100, show_default=True,
              metavar="STEP", help="Every run stops after this step.")
@overrides_option
@json_option
def command(
    config: str, good: str, bad: str, metric: str, data: Path, until: int,
    overrides: tuple[str, ...], as_json: bool,
) -> None:
    """Find the first commit between REVs at which CONFIG trains worse than at the good one.

    Runs `git bisect run` with the gate as its test, in a work tree of its own. Throughput
    takes 5 runs a commit, loss 1. A commit that does not train is skipped.
    """
    from baselines import bisect

    found = bisect.bisect(
        config, data, metric=metric, until=until, good=good, bad=bad, overrides=overrides
    )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif "commit" in found:
        click.echo(f"{found['commit']} {found['subject']}")
    else:
        click.echo("one of these (the others could not be told):")
        click.echo("\n".join(found["candidates"]))

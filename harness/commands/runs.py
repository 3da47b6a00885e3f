"""`harness runs`: the runs below a folder, and room made among them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.wording import aligned, size
from harness.commands.options import RunPath, Suggesting, json_option

if TYPE_CHECKING:
    from harness.runs.inventory import Listed

_folder = click.argument("folder", default="runs", type=click.Path(file_okay=False, path_type=Path))
_EVERY = 2.0  # seconds between two looks


@click.group("runs", cls=Suggesting)
def command() -> None:
    """List the runs below a folder; prune their checkpoints."""


@command.command("list")
@_folder
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@json_option
def list_(folder: Path, watch: bool, as_json: bool) -> None:
    """Runs below FOLDER [runs]: state, step, speed, last figures, size on disk."""
    from harness.base.errors import UsageError
    from harness.runs import inventory

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", remedy="start a run with `harness train CONFIG`")
    if as_json:
        found = inventory.listed(folder)
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    if not watch:
        click.echo("\n".join(lines(inventory.listed(folder))))
        return
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=1 / _EVERY, screen=False) as live:
        while True:
            live.update(Text("\n".join(lines(inventory.listed(folder)))))
            time.sleep(_EVERY)


@command.command()
@click.argument("run", type=RunPath(path_type=Path), metavar="RUN")
@click.option(
    "--report-to", multiple=True, default=["visualdl"], show_default=True,
    type=click.Choice(["visualdl", "tensorboard", "wandb"]), help="May be repeated.",
)
def curves(run: Path, report_to: tuple[str, ...]) -> None:
    """Curves of RUN in RUN/live/<name>/, as `harness train --report-to` makes them on the way."""
    from harness import runs
    from harness.training.curves import follow, writers

    kinds = tuple(dict.fromkeys(report_to))
    writers.require(kinds)
    loaded = runs.load(run)
    with follow.alone(run):
        follow.follow(loaded, kinds, once=True)
    for kind in kinds:
        click.echo(str(run / follow.FOLDER / kind))


@command.command()
@_folder
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(folder: Path, yes: bool) -> None:
    """Remove all but the newest checkpoint of each run below FOLDER that is done.

    Runs of a recorded baseline, and those that are not done, are left whole. Says what it would
    free, and asks.
    """
    from baselines import record
    from harness.runs import inventory

    kept = {run["name"] for name in record.names() for run in record.load(name).content["runs"]}
    doomed = inventory.spare(inventory.listed(folder), kept)
    for directory, freed in doomed.items():
        click.echo(f"{size(freed, 2):>9}  {directory}")
    if not doomed:
        click.echo("nothing to remove")
        return
    if yes or _agreed(f"remove these checkpoints, {size(sum(doomed.values()), 2)}?"):
        for directory in doomed:
            inventory.prune(directory)


def _agreed(question: str) -> bool:
    from harness.base.errors import UsageError

    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # after the question
        raise UsageError("nobody answered", remedy="give --yes to remove them unasked") from None


def lines(found: list[Listed]) -> list[str]:
    """A line a run, aligned."""
    rows = [("run", "state", "step", "images/s", "loss", "figures", "size")]
    for one in found:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in one.figures.items())
        rows.append((
            one.directory, one.state, f"{one.step:,}/{one.steps:,}" if one.steps else "",
            f"{one.speed:,.1f}" if one.speed else "", f"{one.loss:.4f}" if one.loss else "",
            figures or one.note, size(one.bytes, 2),
        ))
    return aligned(rows)

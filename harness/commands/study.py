"""`harness study`: many runs from one file, beside each other or by a scheduler."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.progress import say
from harness.base.wording import aligned, size
from harness.commands import study_report
from harness.commands.options import Suggesting, directory_option, file_option, json_option

if TYPE_CHECKING:
    from harness.studies.study_status import Shown

_EVERY = 2.0  # seconds between two looks
_file = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
_directory = click.argument(
    "directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_data = directory_option(
    "--data", help="Features to train on.  [default: data/ and the data set's name]")
_retries = click.option("--retries", type=click.IntRange(0, 9), default=0, show_default=True,
                        help="Try a cell that fails so many times again.")


class DeviceNumbers(click.ParamType):
    """`0,1,2`."""

    name = "numbers"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):
            self.fail(f"{value!r} is no list of numbers: 0,1,2", param, ctx)
        numbers = tuple(map(int, words))
        if len(set(numbers)) < len(numbers):
            self.fail(f"{value!r} names a device twice", param, ctx)
        return numbers


@click.group("study", cls=Suggesting)
def command() -> None:
    """A table of configs, seeds, stacks and settings as one file, run and watched."""


for _one in (study_report.report, study_report.bundle, study_report.check, study_report.reproduce):
    command.add_command(_one)


@command.command()
@_file
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE",
              help="What the cells will run on: a100-80g, h100, l4, rtx4090, cpu, ...")
@click.option("--price", type=click.FloatRange(0, min_open=True),
              help="Of one device for an hour.")
@json_option
def show(file: Path, device: str, price: float | None, as_json: bool) -> None:
    """Check FILE; print its cells and what they will take, as `harness plan` has it."""
    from harness.plan import devices
    from harness.studies import study_costs, study_file

    study = study_file.load(file)
    on = devices.find(device)
    costs = study_costs.costs(study, on)
    cells = [(one, costs[one.axes["config"], one.axes["variant"]]) for one in study.cells()]
    hours = tuple(sum(cost.hours[at] for _, cost in cells) for at in (0, 1))
    if as_json:
        click.echo(json.dumps({
            "name": study.name, "question": study.question, "digest": study.digest,
            "device": on.name, "device_hours": hours,
            "cost": [price * one for one in hours] if price else None,
            "disk_bytes": sum(cost.disk for _, cost in cells),
            "cells": [
                {"id": one.id, "axes": one.axes, "seed": one.seed,
                 "steps": study.last_step(one.axes), **cost.to_dict()}
                for one, cost in cells
            ],
        }, indent=2))
        return
    rows = [("cell", "steps", "training, hours", "evaluating, hours", "on disk", "fits")]
    for one, cost in cells:
        rows.append((
            one.id, f"{study.last_step(one.axes):,}", _range(cost.training),
            _range(cost.evaluating), size(cost.disk), "yes" if cost.fits else "no"))
    total = f"{len(cells):,} cells on {on.name}: {_range(hours)} device-hours"
    if price:
        total += f", {_range((price * hours[0], price * hours[1]))} in money"
    click.echo("\n".join((
        f"{study.name}: {study.question}", f"digest {study.digest}", "", *aligned(rows), "",
        f"{total}, {size(sum(cost.disk for _, cost in cells))} on disk at most")))


@command.command()
@_file
@directory_option("-o", "--output-dir", "directory", required=True,
                  help="The study's directory; runs lie in its cells/.")
@_data
@click.option("--jobs", type=click.IntRange(1, 1024),
              help="Cells at a time.  [default: as many as processors and devices have room for]")
@click.option("--devices", type=DeviceNumbers(), default=(),
              help="GPUs that cells take in turns: 0,1,2,3.")
@_retries
@directory_option("--adopt", help="Take over runs below this folder that are cells of the study.")
@click.option("--executor", type=click.Choice(["here", "slurm"]), default="here", show_default=True,
              help="slurm: put the cells into its queue, as arrays of batch jobs.")
@click.option("--partition", help="Of Slurm.")
@click.option("--account", help="Of Slurm.")
@click.option("--time", "limit", help="Of a cell's job, as sbatch takes it: 24:00:00.")
@click.option("--gpus", type=click.IntRange(1, 64), help="Of a cell, on each machine, from Slurm.")
@file_option("--template", help="Lines for the batch script: more #SBATCH, modules to load.")
def run(
    file: Path, directory: Path, data: Path | None, jobs: int | None, devices: tuple[int, ...],
    retries: int, adopt: Path | None, executor: str, **asked,
) -> None:
    """Run the cells of FILE, or go on with them; print the study's directory.

    A cell is an ordinary run directory, trained and evaluated. One that fails leaves the others to
    go on, and is told at the end. Ctrl-C stops all of them; the same command goes on. With
    --executor slurm those that are neither done nor in the queue are put there, no more.
    """
    from harness.base.errors import UsageError
    from harness.studies import slurm_arrays, study_file, study_run

    study = study_file.load(file)
    if executor == "slurm":
        if devices:
            raise UsageError("--devices are of this machine", remedy="give --gpus")
        wanted = slurm_arrays.Asked(time=asked.pop("limit"), jobs=jobs, **asked)
        for number in slurm_arrays.submit(
            study, directory, wanted, data=data, retries=retries, adopt=adopt
        ):
            say(f"submitted: job {number}")
        click.echo(str(directory))
        return
    if given := [name for name, value in asked.items() if value is not None]:
        raise UsageError(f"--{given[0].replace('limit', 'time')} is for Slurm",
                         remedy="give --executor slurm")
    study_run.run(study, directory, data=data, jobs=jobs, devices=devices, retries=retries,
                  adopt=adopt)
    click.echo(str(directory))


@command.command()
@_directory
@click.option("--watch", is_flag=True,
              help="Look again every two seconds, until all are done or failed.")
@json_option
def status(directory: Path, watch: bool, as_json: bool) -> None:
    """Say where each cell of the study in DIR has come to."""
    from harness.studies import slurm_arrays, study_directory, study_status

    study = study_directory.load(directory)

    def look() -> list[Shown]:
        return study_status.look(study, directory, slurm_arrays.queue(directory))

    found = look()
    if as_json:
        click.echo(json.dumps({
            "name": study.name, "digest": study.digest, "states": study_status.counts(found),
            "cells": [asdict(one) for one in found],
        }, indent=2))
        return
    if not watch:
        click.echo("\n".join(lines(study.name, found)))
        return
    if not sys.stdout.isatty():
        said = ""
        while True:
            if (now := lines(study.name, found)[0]) != said:
                click.echo(said := now)
            if _ended(found):
                return
            time.sleep(_EVERY)
            found = look()
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=1 / _EVERY, vertical_overflow="ellipsis") as live:
        while True:
            live.update(Text("\n".join(lines(study.name, found))))
            if _ended(found):
                return
            time.sleep(_EVERY)
            found = look()


@command.command()
@_directory
@click.argument("name", metavar="CELL")
@_data
@_retries
def cell(directory: Path, name: str, data: Path | None, retries: int) -> None:
    """Run one CELL of the study in DIR, by its name: what `run` and schedulers call."""
    from harness.base.errors import UsageError
    from harness.studies import one_cell, study_directory

    study = study_directory.load(directory)
    found = next((one for one in study.cells() if one.id == name), None)
    if found is None:
        raise UsageError(f"{directory} has no cell {name!r}",
                         remedy=f"`harness study status {directory}` lists them")
    ended = one_cell.work(study, directory, found, data=data, retries=retries)
    if ended.code:
        raise ended.error()
    click.echo(str(study_directory.run_directory(directory, name)))


def lines(name: str, found: list[Shown]) -> list[str]:
    """How many cells are in which state, and a line for each; those at work and failed first."""
    from harness.studies import study_status

    order = {state: at for at, state in enumerate(("running", "failed", "stopped"))}
    counted = study_status.counts(found)
    said = ", ".join(f"{number:,} {state}" for state, number in counted.items())
    rows = [("cell", "state", "step", "left", "attempts", "")]
    for one in sorted(found, key=lambda one: order.get(one.state, len(order))):
        left = "" if one.seconds_left is None else _span(one.seconds_left)
        rows.append((one.id, one.state, f"{one.step:,}/{one.steps:,}", left,
                     str(one.attempts or ""), one.note))
    return [f"{name}: {said}", "", *aligned(rows)]


def _ended(found: list[Shown]) -> bool:
    return all(one.state in ("done", "failed") for one in found)


def _range(pair: tuple[float, ...]) -> str:
    return " to ".join(f"{one:,.0f}" if one >= 100 else f"{one:.2g}" for one in pair)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"

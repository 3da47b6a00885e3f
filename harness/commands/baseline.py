"""`harness baseline`: record reference runs, look at them, compare two records."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.base.wording import counted
from harness.commands.options import RunPath, Suggesting, directory_option, json_option

_folder_option = directory_option(
    "--dir", "folder", help="Where baselines lie.  [default: baselines/recorded]"
)


@click.group("baseline", cls=Suggesting)
def command() -> None:
    """Record runs as a baseline; list, show and compare baselines."""


@command.command("record")
@click.argument("runs_", nargs=-1, required=True, metavar="RUN...", type=RunPath())
@click.option("--name", required=True, help="The baseline's name; its file is DIR/NAME.json.")
@_folder_option
@click.option("--replace", is_flag=True, help="Replace the baseline of that name.")
def record_(runs_: tuple[str, ...], name: str, folder: Path | None, replace: bool) -> None:
    """Write a baseline from at least 3 RUNs of a pinned config (5 for throughput)."""
    from baselines import record
    from harness import runs

    baseline = record.record(runs.find(runs_), name)
    path = record.save(baseline, folder=folder or record.FOLDER, replace=replace)
    if "throughput" not in baseline.content["metrics"]:
        click.echo(
            f"throughput is left out: it needs {record.FEWEST_FOR_SPEED} runs with timed steps",
            err=True,
        )
    click.echo(str(path))


@command.command("list")
@_folder_option
@json_option
def list_(folder: Path | None, as_json: bool) -> None:
    """The recorded baselines."""
    from baselines import record

    found = [
        record.load(name, folder=folder or record.FOLDER).content
        for name in record.names(folder=folder or record.FOLDER)
    ]
    rows = [
        {"name": c["name"], "config": c["config"], "digest": c["digest"], "step": c["step"],
         "runs": len(c["runs"]), "device": c["fingerprint"].get("device"),
         "metrics": list(c["metrics"])}
        for c in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['name']}  {row['config']} {row['digest'][:8]}  step {row['step']}  "
            f"{row['runs']} runs  {row['device']}"
        )
    if not rows:
        click.echo("none recorded yet; `harness baseline record RUN... --name NAME`", err=True)


@command.command("show")
@click.argument("name")
@_folder_option
@json_option
def show(name: str, folder: Path | None, as_json: bool) -> None:
    """A baseline's figures; NAME `published` shows the published numbers and their sources."""
    if name == "published":
        _show_published(as_json)
        return
    from baselines import check_table, record

    content = record.load(name, folder=folder or record.FOLDER).content
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(f"{content['name']}: {content['config']} {content['digest'][:8]}, step "
               f"{content['step']}, {counted(len(content['runs']), 'run')}, "
               f"commit {content['commit']}")
    click.echo(f"on {content['fingerprint'].get('device')}")
    for key, summary in content["metrics"].items():
        spread = summary["spread"] / abs(summary["median"]) if summary["median"] else 0.0
        click.echo(f"  {key:<30} {check_table.figure(key, summary['median']):>18}   "
                   f"spread {spread:.2%}   n {summary['n']}")
    for seed, bits in content["bits"].items():
        click.echo(f"  seed {seed}: weights {(bits['weights'] or 'none')[:8]}, ema "
                   f"{(bits['ema'] or 'none')[:8]}, loss {bits['loss']['sha256'][:8]}")


def _show_published(as_json: bool) -> None:
    from baselines import published

    numbers = published.load()
    if as_json:
        click.echo(json.dumps(numbers, indent=2))
        return
    for number in numbers:
        second = " (second-hand)" if number["source"].get("second_hand") else ""
        click.echo(f"{number['model']:<30} {number['metric']:<20} {number['value']:>9} "
                   f"{number.get('unit', ''):<9} {number['protocol']['name']:<18} "
                   f"{number['source']['where']}{second}")


@command.command("diff")
@click.argument("a")
@click.argument("b")
@_folder_option
@json_option
def diff(a: str, b: str, folder: Path | None, as_json: bool) -> None:
    """How baseline B differs from A: config, software, bits, and each metric's ratio."""
    from baselines import baseline_diff, record

    folder = folder or record.FOLDER
    found = baseline_diff.differences(record.load(a, folder=folder), record.load(b, folder=folder))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for key, (one, other) in found["differs"].items():
        click.echo(f"{key}: {one!r} -> {other!r}")
    for row in found["metrics"]:
        click.echo(f"{row['metric']:<30} {baseline_diff.describe(row)}")

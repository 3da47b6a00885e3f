"""`harness diff`: what differs between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import RunPath, json_option


@click.command("diff")
@click.argument("a", type=RunPath(path_type=Path), metavar="RUN_A")
@click.argument("b", type=RunPath(path_type=Path), metavar="RUN_B")
@json_option
def command(a: Path, b: Path, as_json: bool) -> None:
    """Say what differs between RUN_A and RUN_B.

    Config keys and stack entries first, then the first step whose loss differs, and at
    the checkpoints nearest to it the tensors that differ and by how much. Exit code 0
    if all recorded results have the same bits, whatever the settings; 3 if not.
    """
    from harness import runs
    from harness.base.errors import GateFailed
    from harness.reproduction import diff as diff_

    report = diff_.diff(runs.load(a), runs.load(b))
    click.echo(json.dumps(report, indent=2) if as_json else diff_.text(report))
    if not report["identical"]:
        raise GateFailed(f"{a} and {b} do not have the same results")

"""`harness check`: the gate."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from harness.base import kernel_choice
from harness.commands.options import directory_option, file_option, format_option, json_option


@click.command("check")
@click.argument("runs_", nargs=-1, required=True, metavar="RUN...")
@click.option("--baseline", "name", required=True, help="A baseline's name, or its JSON file.")
@directory_option("--dir", "folder", help="Where baselines lie.  [default: baselines/recorded]")
@click.option(
    "--require-bits", is_flag=True,
    help="Fail where the software differs from the baseline's, so that bits cannot be compared.",
)
@click.option(
    "--kernels", type=click.Choice(kernel_choice.CHOICES["kernels"]),
    help="Compare nothing unless runs and baseline are of these kernels.  [default: of the same]",
)
@json_option
@format_option("markdown-pr")
@file_option("--junit", help="Write the verdicts as JUnit XML.")
@click.option("--github", is_flag=True, help="Write a step summary and annotations for GitHub.")
def command(
    runs_: tuple[str, ...], name: str, folder: Path | None, require_bits: bool,
    kernels: str | None, as_json: bool, form: str | None, junit: Path | None, github: bool,
) -> None:
    """Compare RUNs of one config with a baseline; exit 0 only if nothing is worse.

    Per metric: better, same, worse, inconclusive (the machine was too noisy: run again and give
    all runs), not comparable, or missing. Anything but better and same exits 3.
    """
    from baselines import check_table, gate, record, result_formats
    from baselines import junit as junit_output
    from harness import files, runs
    from harness.base.errors import GateFailed

    baseline = record.load(name, folder=folder or record.FOLDER)
    found = runs.find(runs_)
    report = gate.check(found, baseline, require_bits=require_bits, kernels=kernels)
    if form is not None:
        click.echo(result_formats.of_check(report, found, form), nl=False)
    elif as_json:
        click.echo(json.dumps(check_table.document(report), indent=2))
    else:
        click.echo(check_table.table(report))
    if junit is not None:
        with files.writing(junit):
            files.atomic_write_bytes(junit, junit_output.document([report]))
    if github:
        _github(check_table.markdown(report), check_table.github_lines(report))
    if (record_command := check_table.rerecord(report)) and not (as_json or form):
        click.echo(f"improved; to make this the baseline: {record_command}")
    if report.outcome == "inconclusive":
        raise GateFailed(
            f"{baseline.name}: inconclusive, the machine was too noisy or not its own",
            remedy="run again, and check all the runs together",
        )
    if report.outcome != "passed":
        blocking = [f"{v.metric} {v.verdict}" for v in report.verdicts if v.gates and not v.passes]
        raise GateFailed(f"{baseline.name}: {', '.join(blocking) or 'nothing to compare'}")


def _github(summary: str, annotations: list[str]) -> None:
    """Append to the step summary (where GitHub names one); annotations go to stderr's log."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(summary)
    else:
        click.echo(summary, err=True)
    for line in annotations:
        click.echo(line, err=True)

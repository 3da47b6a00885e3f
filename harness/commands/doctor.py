"""`harness doctor`: what this machine can run, and what it lacks."""

from __future__ import annotations

import json

import click

from harness.commands.options import json_option

_MARK = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what this machine can run, and what it lacks, each with its remedy.

    Exits 5 if something is missing that training or evaluation cannot do without.
    """
    from harness.base.errors import EnvironmentFault
    from harness.doctor import examine

    findings = examine.examine()
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            remedy = f"\n{' ' * 30}-> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{_MARK[finding.status]}  {finding.what:<20} {finding.detail}{remedy}")
    missing = dict.fromkeys(finding.name for finding in findings if finding.status == "missing")
    if missing:
        raise EnvironmentFault(f"missing: {', '.join(missing)}", remedy="see the remedies above")

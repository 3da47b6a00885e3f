"""`harness doctor`: what this machine can run, and what it lacks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import json_option

if TYPE_CHECKING:
    from harness.doctor.findings import Finding

_MARK = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
_MET = {True: "holds  ", False: "BROKEN ", None: "not run"}


@click.command("doctor")
@click.option("--probe", is_flag=True,
              help="Also try, in about a minute, which promises hold with this Paddle.")
@json_option
def command(probe: bool, as_json: bool) -> None:
    """Say what this machine can run, and what it lacks, each with its remedy.

    With --probe also: parity with the official network, gradients, same bits twice, after a stop
    and on two devices, half precision, saving; each with a figure.

    Exits 5 if something is missing that training or evaluation cannot do without, 3 if a
    promise is broken.
    """
    from harness.base.errors import EnvironmentFault
    from harness.doctor import examine

    findings = examine.examine()
    if as_json and not probe:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif not as_json:
        for finding in findings:
            remedy = f"\n{' ' * 30}-> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{_MARK[finding.status]}  {finding.what:<20} {finding.detail}{remedy}")
    missing = dict.fromkeys(finding.name for finding in findings if finding.status == "missing")
    if missing:
        raise EnvironmentFault(f"missing: {', '.join(missing)}", remedy="see the remedies above")
    if probe:
        _probe(findings, as_json)


def _probe(findings: list[Finding], as_json: bool) -> None:
    import tempfile

    from harness.base.errors import GateFailed
    from harness.doctor import probe

    promises = []
    with tempfile.TemporaryDirectory(prefix="harness-probe-") as folder:
        for one in probe.probe(Path(folder)):
            promises.append(one)
            if not as_json:
                bound = f" (bound {one.bound})" if one.bound else ""
                click.echo(f"{_MET[one.met]}  {one.name:<26} {one.figure}{bound}")
    if as_json:
        click.echo(json.dumps({
            "findings": [asdict(finding) for finding in findings],
            "promises": [asdict(one) for one in promises],
        }, indent=2))
    if broken := [one.name for one in promises if one.met is False]:
        raise GateFailed(f"with this Paddle these do not hold: {', '.join(broken)}")

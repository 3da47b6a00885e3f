"""`harness acceptance`: what a machine has to show before its figures are believed."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import directory_option, json_option


@click.command("acceptance")
@directory_option("-o", "--output-dir", "out", required=True,
                  help="Results lie here; the same command goes on from those that are there.")
@click.option("--rehearse", is_flag=True,
              help="The whole way on a CPU, at sizes that say nothing of speed; minutes.")
@json_option
def command(out: Path, rehearse: bool, as_json: bool) -> None:
    """Hold a machine with GPUs to every promise; about an hour, exit 3 if one is broken.

    Parity with the official network, same bits twice, after a stop and on all devices, half
    precision's curves, both kinds of attention, memory against the plan, a step beside PyTorch's,
    evaluation, a baseline with its gate, and a planted slowdown that must be found. Ends with one
    page (acceptance.html) and acceptance.json: send them with what is wrong.
    """
    import json

    from harness.base import paddle_env
    from harness.base.errors import EnvironmentFault, GateFailed

    paddle_env.require_paddle()
    from harness.doctor import acceptance, acceptance_page

    out.mkdir(parents=True, exist_ok=True)
    lab = (acceptance.rehearsal if rehearse else acceptance.full)(out.resolve())
    if not (lab.gpus or rehearse):
        raise EnvironmentFault("there is no GPU to accept", remedy="`harness doctor` says why; "
                               "--rehearse goes the whole way on a CPU")
    found = {}
    for name, promises in acceptance.accept(lab):
        found[name] = promises
        for one in [] if as_json else promises:
            bound = f" (bound {one.bound})" if one.bound else ""
            click.echo(f"{acceptance_page.MET[one.met]:<8} {one.name:<32} {one.figure}{bound}")
    document = acceptance.document(lab, found)
    page = acceptance_page.write(document, lab.folder)
    click.echo(json.dumps(document, indent=2) if as_json else str(page))
    broken = [one.name for each in found.values() for one in each if one.met is False]
    if broken:
        raise GateFailed(f"not met: {', '.join(broken)}")

"""`harness ab`: one config under two stacks or settings, in turns."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import config_argument, directory_option, json_option


def _side(name: str):
    """The options that say what one side is."""
    upper = name.upper()

    def add(command):
        for option in reversed((
            click.option(f"--{name}", f"{name}_python", metavar="PYTHON",
                         help=f"The interpreter of {upper}'s stack.  [default: this one]"),
            click.option(f"--{name}-set", multiple=True, metavar="SECTION.KEY=VALUE",
                         help=f"Change one value of the config for {upper}."),
            click.option(f"--{name}-env", multiple=True, metavar="NAME=VALUE",
                         help=f"Set an environment variable for {upper}."),
            click.option(f"--{name}-arg", multiple=True, metavar="OPTION",
                         help=f"Give `harness train` and `eval` this option for {upper}."),
        )):
            command = option(command)
        return command

    return add


@click.command("ab")
@config_argument
@_side("a")
@_side("b")
@directory_option("-o", "--output-dir", "out", required=True, help="Runs and page lie here.")
@directory_option("--data", help="Features to train on.  [default: data/ and the data set's name]")
@click.option("--rounds", type=click.IntRange(6, 200), default=8, show_default=True,
              help="Runs of each side; more go on from those that are there.")
@click.option("--until", type=click.IntRange(min=1), default=100, show_default=True,
              metavar="STEP", help="Every run stops after this step.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Default: the config's seed.")
@click.option("--no-eval", is_flag=True, help="No evaluation: speed, memory and losses alone.")
@click.option("--protocol", help="Evaluate by this protocol.  [default: the config's]")
@click.option("--n-samples", type=click.IntRange(min=1), help="Override the protocol's N.")
@click.option("--retries", type=click.IntRange(0, 9), default=0, show_default=True,
              help="Try a run that fails so many times again.")
@click.option("--turns", type=click.Choice(["steps", "runs"]),
              help="What A and B take turns by; steps needs memory for both at once.  [default: "
                   "steps on a CPU where no side has options, else runs]")
@click.option("--installed", is_flag=True,
              help="Run the harness that each PYTHON has installed, not this one.")
@json_option
def command(
    config: str, out: Path, data: Path | None, rounds: int, until: int, seed: int | None,
    no_eval: bool, protocol: str | None, n_samples: int | None, retries: int, turns: str | None,
    installed: bool, as_json: bool, **sides,
) -> None:
    """Compare CONFIG under A and B, which take turns on this machine; exit 3 if B is worse.

    The same command again goes on where it stopped. Prints a verdict for each figure (better,
    same, worse, cannot say) and the path of a page.

    \b
    Two stacks:    harness ab CONFIG --a .venv/bin/python --b .venv-paddle3/bin/python -o DIR
    Two settings:  harness ab CONFIG --b-set optim.lr=1e-4 -o DIR
    """
    from harness.base.errors import GateFailed
    from harness.cells import run_cells as cells

    shared = cells.Cell(
        config, data or _default_data(config), out, seed, until,
        source=None if installed else cells.CHECKOUT,
    )
    evaluation = cells.given(protocol=protocol, n_samples=n_samples)
    chosen = {side: _cell(shared, side, sides) for side in ("a", "b")}
    from baselines import ab_compare, ab_page

    result = ab_compare.run(
        chosen, out, rounds=rounds, evaluation=None if no_eval else evaluation, retries=retries,
        turns=turns,
    )
    page = ab_page.write(result, out / "report")
    if as_json:
        click.echo(json.dumps({**ab_page.document(result), "page": str(page)}, indent=2))
    else:
        click.echo(f"{ab_page.text(result)}\n{page}")
    if result.outcome in ("worse", "missing"):
        found = [f"{one.metric} {one.verdict}" for one in result.report.verdicts
                 if one.verdict in ("worse", "missing")]
        raise GateFailed(f"B against A: {', '.join(found)}")


def _default_data(config: str) -> Path:
    from harness import configs

    return Path("data") / configs.load(config).data.dataset


def _cell(shared, side: str, options: dict):
    """The cell of one side: what both share, with the side's own stack and settings."""
    import sys
    from dataclasses import replace

    from harness.base.errors import UsageError
    from harness.cells import run_cells as cells

    variables = {}
    for text in options[f"{side}_env"]:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--{side}-env {text!r} is not of the form NAME=VALUE")
        variables[name] = value
    return replace(
        shared, overrides=options[f"{side}_set"], environment=variables,
        arguments=options[f"{side}_arg"],
        python=cells.interpreter(options[f"{side}_python"] or sys.executable),
    )

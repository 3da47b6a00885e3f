"""The command line: finds a command's module only when it is asked for.

`harness --help` and usage errors import neither paddle, torch, pandas nor numpy.
"""

from __future__ import annotations

import importlib

import click

from harness.commands.options import Suggesting
from harness.distributed import program

# name -> (module with a click command called `command`, line in --help)
COMMANDS = {
    "plan": ("harness.commands.plan", "Will a config fit a machine, and what will it take?"),
    "train": ("harness.commands.train", "Train a pinned config, or continue where it stopped."),
    "verify": ("harness.commands.verify", "Re-run part of a run; does it come out the same?"),
    "diff": ("harness.commands.diff", "What differs between two runs, and from which step on."),
    "eval": ("harness.commands.eval", "Sample from a run's EMA weights and measure (FID)."),
    "runs": ("harness.commands.runs", "What runs there are, and how far; make room."),
    "report": ("harness.commands.report", "Compare runs: throughput, memory, quality."),
    "import": ("harness.commands.import_", "Make a run from weights trained elsewhere."),
    "export": ("harness.commands.export", "Write a run as a ppdiffusers pipeline's folder."),
    "sample": ("harness.commands.sample", "Images of your own prompts, from a run or a pipeline."),
    "check": ("harness.commands.check", "The gate: runs against a recorded baseline."),
    "history": ("harness.commands.history", "Pages over all nights of all runners; notes."),
    "baseline": ("harness.commands.baseline", "Record and compare baselines."),
    "ab": ("harness.commands.ab", "One config under two stacks or settings, in turns."),
    "study": ("harness.commands.study", "Many runs from one file: a paper's table."),
    "bisect": ("harness.commands.bisect", "Find the commit that made a metric worse."),
    "config": ("harness.commands.config", "List, show and validate configs."),
    "data": ("harness.commands.data", "Make, get, check and pack data sets."),
    "fid": ("harness.commands.fid", "FID between two sets of images or statistics."),
    "stats": ("harness.commands.stats", "Reference statistics of a folder of images."),
    "fetch": ("harness.commands.fetch", "Put a feature network's weights in their place."),
    "acceptance": ("harness.commands.acceptance", "Hold a machine with GPUs to every promise."),
    "doctor": ("harness.commands.doctor", "What this machine can run, and what it lacks."),
}


BEGIN = """\
To begin with, in a few minutes on a CPU:

  harness data digits data/digits                # a small data set
  harness train digits_tiny --data data/digits   # a run, evaluated on the way
  harness report                                 # its throughput, memory and quality

Every command: harness --help. What this machine can run: harness doctor."""


class LazyGroup(Suggesting):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        return importlib.import_module(module).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from harness.base import fingerprint

    commit = fingerprint.git_commit()
    version = fingerprint.version("uvit-harness") or "of an unknown version"
    click.echo(f"harness {version}" + (f" (commit {commit})" if commit else ""))
    ctx.exit()


@click.group(
    cls=LazyGroup, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Show the version, with the commit where it is known, and exit.",
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Reproducible training and evaluation of U-ViT latent diffusion on PaddlePaddle.

    \b
    harness data digits data/digits  # make a small data set
    harness train digits_tiny --data data/digits
    harness eval --fid               # evaluate the newest run
    harness report                   # compare all runs

    Exit codes: 0 done, 1 a bug, 2 usage, 3 a gate failed, 4 bad data,
    5 this machine cannot, 75 interrupted (run the same command again).
    """
    if ctx.invoked_subcommand is None:
        click.echo(BEGIN)


def main() -> None:
    """Run the command line."""
    program.run(lambda: root(prog_name="harness"))


if __name__ == "__main__":
    main()

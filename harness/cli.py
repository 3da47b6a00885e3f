"""The command line: finds a command's module only when it is asked for.

`harness --help` and usage errors import neither paddle, torch, pandas nor numpy.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import signal
import sys

import click

from harness.base.errors import HarnessError
from harness.base.progress import say

# name -> (module with a click command called `command`, line in --help)
COMMANDS = {
    "train": ("harness.commands.train", "Train a pinned config, or continue where it stopped."),
    "verify": ("harness.commands.verify", "Re-run part of a run; does it come out the same?"),
    "diff": ("harness.commands.diff", "What differs between two runs, and from which step on."),
    "eval": ("harness.commands.eval", "Sample from a run's EMA weights and measure (FID)."),
    "report": ("harness.commands.report", "Compare runs: throughput, memory, quality."),
    "import": ("harness.commands.import_", "Make a run from weights trained elsewhere."),
    "export": ("harness.commands.export", "Write a run as a ppdiffusers pipeline's folder."),
    "sample": ("harness.commands.sample", "Images of your own prompts, from a run or a pipeline."),
    "check": ("harness.commands.check", "The gate: runs against a recorded baseline."),
    "baseline": ("harness.commands.baseline", "Record and compare baselines."),
    "bisect": ("harness.commands.bisect", "Find the commit that made a metric worse."),
    "config": ("harness.commands.config", "List, show and validate configs."),
    "data": ("harness.commands.data", "Make, get, check and pack data sets."),
    "fid": ("harness.commands.fid", "FID between two sets of images or statistics."),
    "stats": ("harness.commands.stats", "Reference statistics of a folder of images."),
    "fetch": ("harness.commands.fetch", "Put the Inception weights in their place."),
    "doctor": ("harness.commands.doctor", "What this machine can run, and what it lacks."),
}


class LazyGroup(click.Group):
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

    def resolve_command(self, ctx: click.Context, args: list[str]):
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uvit-harness", prog_name="harness")
def root() -> None:
    """Reproducible training and evaluation of U-ViT latent diffusion on PaddlePaddle.

    \b
    harness data digits data/digits          make a small data set
    harness train digits_tiny --data data/digits
    harness eval --fid                       evaluate the newest run
    harness report                           compare all runs

    Exit codes: 0 done, 1 a bug, 2 usage, 3 a gate failed, 4 bad data,
    5 this machine cannot, 75 interrupted (run the same command again).
    """


class _Signal(BaseException):
    """SIGTERM or Ctrl-C; not an Exception, so that nothing on the way takes it for an error."""


_signals: list[str] = []  # names of those that came


def _interrupt(number: int, _frame: object) -> None:
    _signals.append(signal.Signals(number).name)
    raise _Signal


def main() -> None:
    """Run the command line; expected errors are one line on stderr and an exit code."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # a shell's background job
                signal.signal(number, _interrupt)
        root(prog_name="harness")
    except SystemExit as leaving:
        # click's own answer is 1 (`harness config show | head`).
        if isinstance(leaving.__context__, BrokenPipeError) and _reader_has_gone():
            _drop_output()
            _exit(0)
        raise
    except BaseException as error:
        if _signals:
            # Inside an import, a signal comes out as any error at all. Files appear whole or not
            # at all, so there is nothing to put right.
            _end(75, f"{_signals[0]}: stopped; run the same command again")
        if isinstance(error, HarnessError):
            _end(error.exit_code, f"error: {error}")
        if isinstance(error, MemoryError):
            _end(5, "error: out of memory; lower the batch sizes")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _drop_output()  # what stdout is redirected to may be what is full
            _end(5, f"error: {error.strerror}; free some space and run the same command again")
        _tell_launcher(1, f"{type(error).__name__}: {error}")
        raise


def _reader_has_gone() -> bool:
    """Whether stdout is a pipe that nobody reads: another broken pipe is no reason to end well."""
    poll = select.poll()
    poll.register(sys.__stdout__, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_output() -> None:
    """Let nothing that stdout still holds be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _end(code: int, message: str) -> None:
    if not _tell_launcher(code, message.removeprefix("error: ")):
        say(f"harness: {message}")
    _exit(code)


def _tell_launcher(code: int, message: str) -> bool:
    """One of several workers leaves its error where the process that launched them looks."""
    if "HARNESS_RANK_REPORTS" not in os.environ:
        return False
    from harness.distributed import rank_reports

    return rank_reports.error(code, message)


def _exit(code: int) -> None:
    sys.stdout.flush()
    raise SystemExit(code)


if __name__ == "__main__":
    main()

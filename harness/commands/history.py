"""`harness history`: pages over all nights, and what people said of a night."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import Suggesting, directory_option

_history = click.argument(
    "history", metavar="HISTORY", type=click.Path(file_okay=False, path_type=Path)
)


@click.group("history", cls=Suggesting)
def command() -> None:
    """Pages over all nights of all runners; notes on a night."""


@command.command()
@_history
@directory_option(
    "-o", "--output-dir", default=Path("site"), show_default=True,
    help="Where the pages are written; earlier pages there are replaced.",
)
def build(history: Path, output_dir: Path) -> None:
    """Make pages of HISTORY, which `make nightly` keeps; prints the index's path.

    They open from disk and fetch nothing. A night is read once: its figures are left beside it.
    """
    from baselines.nights import page_files

    click.echo(str(page_files.write(history, output_dir)))


@command.command()
@_history
@click.argument("night")
@click.option("--text", default="known, accepted", show_default=True, help="What to say of it.")
@click.option("--config", help="[default: every config]")
@click.option("--metric", help="Its name, as `throughput`.  [default: every metric]")
@click.option("--runner", help="[default: every runner]")
def note(
    history: Path, night: str, text: str, config: str | None, metric: str | None,
    runner: str | None,
) -> None:
    """Say of NIGHT (2026-11-22) that what it shows is known; the pages show it from then on."""
    from baselines.nights import night_notes

    said = night_notes.Note(night, text, runner, config, metric)
    night_notes.add(history, said)
    click.echo(str(history / night_notes.FILE))

"""`harness data`: make data sets."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """Make data sets in the format that training reads (coco256_features)."""


@command.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def digits(directory: Path) -> None:
    """Make the embedded data set: scikit-learn's scanned digits, with captions."""
    from harness import environment

    environment.require_paddle()
    from harness import digits as digits_

    digits_.build(directory)
    click.echo(str(directory))

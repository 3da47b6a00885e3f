"""`harness fetch`: put files that cannot be shipped where they are looked for."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import file_option


@click.command("fetch")
@click.argument("what", type=click.Choice(["inception"]))
@file_option("--from", "source", help="Take this file instead of downloading.")
def command(what: str, source: Path | None) -> None:
    """Put the Inception weights (96 MB) where pytorch-fid looks, checked by SHA-256.

    A download that broke off is continued. Prints the file's path.
    """
    from eval.features import inception_weights

    click.echo(str(inception_weights.fetch(source)))

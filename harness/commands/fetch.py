"""`harness fetch`: put files that cannot be shipped where they are looked for."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("fetch")
@click.argument("what", type=click.Choice(["inception", "dinov2", "clip"]))
@click.option("--from", "source", type=click.Path(path_type=Path), help="Take this file (of "
              "inception) or the files in this folder instead of downloading.")
def command(what: str, source: Path | None) -> None:
    """Put a feature network's weights in their place, checked by size and SHA-256.

    inception: 96 MB, where pytorch-fid looks. dinov2 (1.2 GB), clip (1.7 GB): folders
    beside it. A download that broke off is continued. Prints the path.
    """
    from eval.features import inception_weights, transformer_weights

    if what == "inception":
        click.echo(str(inception_weights.fetch(source)))
    else:
        click.echo(str(transformer_weights.fetch(what, source)))

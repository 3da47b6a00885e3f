"""`harness fid`: FID between two sets of images or statistics, as pytorch-fid computes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.commands.options import NetworkName, directory_option, file_option, json_option


@click.command("fid")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--network", type=NetworkName("inception", "dinov2", "clip"), default="inception",
              show_default=True, help="Whose features; FOLDER has the weights of the last two.")
@file_option("--weights", help="Inception weights.  [default: where pytorch-fid looks]")
@directory_option("--features", help="Keep features here; an interrupted call then continues.")
@json_option
def command(
    a: Path, b: Path, network, weights: Path | None, features: Path | None, as_json: bool
) -> None:
    """Frechet distance between A and B, each a folder of images or an .npz (mu, sigma).

    Images are taken as they are, as `python -m pytorch_fid` takes them; statistics
    of any size are compared without the network. With another network than
    Inception it is that one's distance, and CMMD beside it for CLIP.
    """
    from eval.evaluation import fid

    found = fid.compare(a, b, network=network, weights=weights, keep=features)
    if not found["official"]:
        print(
            f"warning: these are not the official {network[0]} weights (SHA-256 "
            f"{found['weights_sha256'][:16]}...): a distance for tests, not an FID",
            file=sys.stderr,
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif "fid" in found:
        click.echo(f"FID:  {found['fid']}")
    else:
        click.echo("\n".join(f"{key}:  {found[key]}" for key in found["figures"]))

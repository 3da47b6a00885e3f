"""`harness stats`: reference statistics of a folder of images."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import NetworkName, directory_option, file_option


@click.command("stats")
@click.argument("images_dir", type=click.Path(path_type=Path))
@file_option("-o", "--output", required=True, help="The .npz to write; it must not exist.")
@click.option("--prepare", type=click.Choice(["coco256", "none"]), default="coco256",
              show_default=True, help="coco256: centre crop, Lanczos to 256, as U-ViT's code.")
@click.option("--with-features", is_flag=True,
              help="Store the features too: then KID, precision and recall can be had.")
@click.option("--network", type=NetworkName("inception", "dinov2", "clip"), default="inception",
              show_default=True, help="Whose features; FOLDER has the weights of the last two.")
@file_option("--weights", help="Inception weights.  [default: where pytorch-fid looks]")
@directory_option("--features", help="Keep features here; an interrupted call then continues.  "
                  "[default: OUTPUT.features, removed at the end]")
def command(
    images_dir: Path, output: Path, prepare: str, with_features: bool, network,
    weights: Path | None, features: Path | None,
) -> None:
    """Statistics (mu, sigma) of the features of the images in IMAGES_DIR.

    The .npz is what pytorch-fid and U-ViT write and read; OUTPUT.json beside it
    says how it was made. Prints the output's path.
    """
    from eval.evaluation import fid

    fid.write_statistics(
        images_dir, output, preparation=prepare, with_features=with_features,
        network=network, weights=weights, keep=features,
    )
    click.echo(str(output))

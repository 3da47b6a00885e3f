"""Make the files under harness/digits/assets again: `python -m harness.digits.make_assets all`.

They are committed, so only whoever changes the embedded data needs this. Each
part runs in a process of its own, since torch and paddle never share one:
`vae` (torch, about 20 minutes on two cores), `text` (paddle, a minute),
`features` (numpy, seconds).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from harness.base import paddle_env

FOLDER = Path(__file__).parent / "assets"
PARTS = ("vae", "text", "features")
SEED = 1234


def log(line: str) -> None:
    click.echo(line, err=True)


def make_vae(folder: Path) -> None:
    import torch

    from harness.digits import pictures, vae

    torch.set_num_threads(2)  # the number of threads changes the bits
    images, labels = pictures.load()
    train = images[pictures.split(labels)["train"]]
    model = vae.train(train, SEED, log)
    std = vae.latent_std(model, train)
    vae.export(model, folder / "vae", scale=round(1 / std, 4))
    log(f"latents have standard deviation {std:.4f}, so the latent scale is {1 / std:.4f}")


def make_text(folder: Path) -> None:
    from harness.digits import text

    text.make(folder, SEED, log)


def make_features(folder: Path) -> None:
    from safetensors.numpy import save

    from eval.features import digits
    from harness import files
    from harness.digits import pictures

    images, labels = pictures.load()
    train = pictures.split(labels)["train"]
    arrays = digits.fit(pictures.rgb(images[train]), labels[train])
    files.atomic_write_bytes(folder / digits.FILE, save(arrays))


@click.command()
@click.argument("part", type=click.Choice([*PARTS, "all"]))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(part: str, output: Path) -> None:
    """Make one PART of the digits' assets again, or all of them."""
    if part == "all":
        for each in PARTS:
            command = [sys.executable, "-m", "harness.digits.make_assets", each, "-o", str(output)]
            subprocess.run(command, check=True)
        return
    paddle_env.prepare(threads=2)
    {"vae": make_vae, "text": make_text, "features": make_features}[part](output)


if __name__ == "__main__":
    main()

"""`harness data`: make, get, check and pack data sets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.base.errors import DataError
from harness.base.wording import counted
from harness.commands.options import Suggesting, directory_option, file_option, json_option

_directory = click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR"
)


@click.group("data", cls=Suggesting)
def command() -> None:
    """Make, get, check and pack data in the format that training reads (coco256_features)."""


@command.command()
@_directory
def digits(directory: Path) -> None:
    """Make the embedded data set: scikit-learn's scanned digits, with captions."""
    from harness.base import paddle_env

    paddle_env.require_paddle()
    from harness.digits import dataset as digits_

    digits_.build(directory)
    click.echo(str(directory))


@command.command()
@click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    default=Path("data/coco256_features"),
)
@directory_option("--from", "by_hand", help="Take the archives from here; download nothing.")
@click.option("--only", multiple=True, metavar="NAME", help="train, val, run_vis or empty_context.")
@file_option("--sources", help="Other addresses, sizes and checksums (JSON).")
@click.option("--show-sources", is_flag=True, help="Print the addresses, and stop.")
def fetch(
    directory: Path, by_hand: Path | None, only: tuple[str, ...], sources: Path | None,
    show_sources: bool,
) -> None:
    """Download coco256_features into DIR, verify and unpack it; again to go on after a break.

    \b
    DIR is data/coco256_features unless given. About 151 GB; an archive lies beside
    its contents while it is unpacked, then it is removed.
    """
    from harness.data.preparation import fetch as fetch_

    if show_sources:
        click.echo((sources or fetch_.SOURCES).read_text(), nl=False)
        return
    wanted = tuple("empty_context.npy" if name == "empty_context" else name for name in only)
    lines = fetch_.fetch(directory, fetch_.read_sources(sources), by_hand=by_hand, only=wanted)
    click.echo("\n".join(lines))


@command.command()
@directory_option("--images", required=True, help="Where the captions file's names start from.")
@file_option("--captions", required=True, help="COCO's captions_*.json, or JSON lines.")
@directory_option("--vae", required=True, help="Folder of an AutoencoderKL (ppdiffusers' form).")
@directory_option("--text-encoder", required=True, help="Folder of a CLIP text encoder.")
@directory_option("--tokenizer", help="Its tokenizer's folder.  [default: found beside it]")
@directory_option("--output", "-o", required=True, help="The data set; its other split may be "
                  "there already.")
@click.option("--split", type=click.Choice(["train", "val"]),
              help="[default: val if the captions file's name says so, else train]")
@click.option("--size", type=click.IntRange(8, 4096), default=256, show_default=True,
              help="Pixels of an edge of the square that an image becomes.")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=8, show_default=True,
              help="Images encoded at once (part of what the bits depend on).")
@file_option("--prompts", help="Texts for run_vis, one a line.  [default: the first captions]")
@click.option("--processes", type=click.IntRange(1, 256), help="[default: one a GPU, or one]")
@click.option("--part", hidden=True)
def extract(images, captions, vae, text_encoder, tokenizer, output, split, size, batch_size,
            prompts, processes, part) -> None:
    """Make features from images and captions, as the official U-ViT preparation does.

    The same command again goes on where it stopped, to the same bytes.
    """
    import sys

    from harness.base import paddle_env
    from harness.data.preparation import extract as extract_

    job = extract_.Job(
        images, captions, vae, text_encoder, tokenizer, output,
        split or ("val" if "val" in captions.name else "train"), size, batch_size,
    )
    paddle_env.require_paddle()
    if part:
        number, count = map(int, part.split("/"))
        extract_.run(job, extract_.begin(job), extract_.load_models(job), part=(number, count))
        return
    extract_.extract(job, prompts=prompts, processes=processes,
                     arguments=sys.argv[sys.argv.index("data"):])
    click.echo(str(job.folder))


@command.command()
@_directory
@click.option("--full", is_flag=True, help="Read every file, and note the data's digest.")
@directory_option("--text-encoder", help="Hold empty_context against this CLIP text encoder.")
@directory_option("--tokenizer", help="Its tokenizer's folder.  [default: found beside it]")
@click.option("--latent-scale", type=click.FloatRange(min=0, min_open=True),
              help="What the training config multiplies latents by.  [default: what the data set "
              "states in dataset.json, else MS-COCO's]")
@json_option
def check(directory: Path, full: bool, text_encoder: Path | None, tokenizer: Path | None,
          latent_scale: float | None, as_json: bool) -> None:
    """Check the data in DIR (either form) and print which data it is; lists every fault.

    Without --full: numbering, every file's size, and 256 images' content. Exit code 4
    if there is a fault.
    """
    from harness.data.preparation import check as check_

    empty = None
    if text_encoder:
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from models.pretrained import text_encoder as encoder

        empty = encoder.load(text_encoder, tokenizer).encode([""])[0]
    report = check_.check(
        directory, full=full, latent_scale=latent_scale, empty_caption=empty
    )
    if as_json:
        click.echo(json.dumps(report.document(), indent=2))
    else:
        click.echo(_told(report))
    if report.faults:
        raise DataError(f"{directory} has {counted(len(report.faults), 'fault')}",
                        remedy="fetch or extract these files again")


def _told(report) -> str:
    lines = [f"{name}: {what}" for name, what in report.faults]
    for name, split in report.splits.items():
        std = split.get("scaled_latents_std")
        lines.append(
            f"{name}: {counted(split['images'], 'image')}, "
            f"{counted(split['captions'], 'caption')}, {counted(split['read'], 'image')} read"
            + (f", scaled latents' std {std:.3f}" if std else "")
        )
    lines += report.notes
    if report.moments_shape and report.context_shape:
        lines.append(f"{report.form}: moments {list(report.moments_shape)}, "
                     f"contexts {list(report.context_shape)}")
    if not report.faults:
        lines.append(f"sampled digest {report.sampled_digest}")
        lines.append(f"digest {report.digest}" if report.digest else
                     "digest: not known; --full reads everything and notes it")
    return "\n".join(lines)


@command.command()
@_directory
@directory_option("--output", "-o", required=True, help="The packed data set; must not exist.")
@click.option("--context", type=click.Choice(["float32", "float16"]), default="float32",
              show_default=True, help="How contexts are stored; float16 rounds them.")
def pack(directory: Path, output: Path, context: str) -> None:
    """Pack the data in DIR into few large files, which train reads ten times as fast.

    float32 gives the same bits in training as DIR itself. The same command again
    goes on where it stopped.
    """
    from harness.data.preparation import pack as pack_

    manifest = pack_.pack(directory, output, context_dtype=context)
    click.echo(f"{output}: digest {manifest['digest']}")

"""Images of anybody's prompts, from a run or from a pipeline's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.evaluation.evaluate_run import load_ema
from eval.features.image_files import EXTENSIONS
from eval.protocols import Protocol
from eval.sampling import image_grid, image_making, latent_sampling
from harness import files, runs
from harness.base.errors import DataError, UsageError
from harness.base.progress import Progress, say
from harness.base.wording import counted
from models import weights
from models.diffusion import Schedule
from models.pretrained import autoencoder, text_encoder, write_pipeline_folder
from models.uvit import UViT

_PROMPT_FILE_LIMIT = 16 << 20


@dataclass
class Pipeline:
    """All that turns a prompt into an image. `latent_scale`: what latents are divided by."""

    model: UViT
    vae: autoencoder.Autoencoder
    text: text_encoder.TextEncoder
    alphas_cumprod: np.ndarray
    latent_scale: float


@dataclass(frozen=True)
class Request:
    """What is asked of it; sample k of prompt i has the noise of (seed, i * count + k)."""

    prompts: Sequence[str]
    count: int = 1
    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    sampler: str = "ddim"
    eta: float = 0.0
    seed: int = 0
    tome: float = 0.0
    tome_mlp: bool = False
    batch_size: int = 4


@dataclass(frozen=True)
class Samples:
    """`noise` and `latents` float32 [n, C, h, w] (scaled as in training), `images` uint8
    [n, H, W, 3]; the samples of the first prompt come first."""

    noise: np.ndarray
    latents: np.ndarray
    images: np.ndarray


def open_run(
    run: runs.Run, *, step: int | None = None, data: Path | None = None, vae: Path | None = None,
    text: Path | None = None, tokenizer: Path | None = None,
) -> Pipeline:
    """A run's EMA weights, with the VAE and text encoder beside its data unless given."""
    _, _, ema = load_ema(run, step)
    config, data = run.config, data or run.data_directory
    model = UViT(**config.model.model_dump())
    weights.load_own(model, ema, str(run.directory))
    if tokenizer is None and text is None:
        tokenizer = data / "tokenizer"
    return _fitting(Pipeline(
        model,
        autoencoder.load(vae or data / "vae"),
        text_encoder.load(
            text or data / "text_encoder", tokenizer, max_length=config.model.num_text_tokens
        ),
        Schedule.of(config.diffusion).alphas_cumprod,
        config.diffusion.latent_scale,
    ))


def open_folder(directory: Path) -> Pipeline:
    """A pipeline's folder: what `harness export` wrote, or a U-ViT pipeline of ppdiffusers."""
    from models.pipeline import read_unet

    index = files.read_json(directory / "model_index.json")
    model, section = read_unet(directory / "unet")
    encoder = next((n for n in ("bert", "text_encoder") if (directory / n).is_dir()), "bert")
    vae = autoencoder.load(directory / "vqvae")
    shown = index.get("_class_name") if isinstance(index, dict) else None
    fixed = shown == "LDMTextToImageUViTPipeline"
    return _fitting(Pipeline(
        model, vae,
        text_encoder.load(
            directory / encoder, directory / "tokenizer", max_length=section["num_text_tokens"]
        ),
        _schedule(directory / "scheduler" / "scheduler_config.json").alphas_cumprod,
        # that pipeline does not ask the VAE
        write_pipeline_folder.UVIT_PIPELINE_SCALE if fixed else vae.scaling_factor,
    ))


def _fitting(pipeline: Pipeline) -> Pipeline:
    pipeline.model.eval()
    write_pipeline_folder.require_fit(dict(pipeline.model.config), pipeline.vae, pipeline.text)
    return pipeline


def _schedule(path: Path) -> Schedule:
    """The schedule that a scheduler's config describes; our shift of it describes the same one."""
    config = files.read_json(path)
    if not isinstance(config, dict) or config.get("beta_schedule") != "scaled_linear":
        raise DataError(f"{path} is not a scaled_linear schedule, which U-ViT is trained with")
    steps, start, end = (
        config.get(k) for k in ("num_train_timesteps", "beta_start", "beta_end")
    )
    if (
        type(steps) is not int or not 1 < steps <= 100_000
        or not isinstance(start, float) or not isinstance(end, float)
        or not 0.0 < start <= end < 1.0
    ):
        raise DataError(f"{path}: num_train_timesteps, beta_start or beta_end cannot be")
    betas = config.get("trained_betas")
    schedule = Schedule(steps, start, end)
    if betas is not None and betas != write_pipeline_folder.shifted_betas(schedule.betas):
        raise DataError(f"{path}: trained_betas are not those of its beta_start and beta_end")
    return schedule


def read_prompts(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not empty; DataError if it is not one or has none."""
    try:
        text = files.read_bytes(path, limit=_PROMPT_FILE_LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from error
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise DataError(f"{path} holds no prompt", remedy="write one a line")
    return prompts


def draw(pipeline: Pipeline, request: Request) -> Samples:
    """Sample and decode; the same request gives the same bits on the same stack.

    The network runs at `batch_size`, the last batch padded. UsageError for settings that cannot
    be. A prompt that is longer than what the model was trained with is cut, with a warning.
    """
    protocol = protocol_of(request)
    for prompt in request.prompts:
        if pipeline.text.is_cut(prompt):
            say(
                f"warning: cut to {pipeline.text.max_length} tokens, as in training: "
                f"{prompt[:60]!r}"
            )
    contexts = np.repeat(pipeline.text.encode(list(request.prompts)), request.count, axis=0)
    ids = range(len(contexts))
    config = pipeline.model.config
    shape = (config["in_channels"], config["sample_size"], config["sample_size"])
    with Progress(len(ids), "sample", unit="image") as progress:
        latents = latent_sampling.sample_latents(
            pipeline.model, contexts, pipeline.text.encode([""])[0], ids, protocol=protocol,
            alphas_cumprod=pipeline.alphas_cumprod,
            batch_size=min(request.batch_size, len(ids)), on_batch=progress.advance,
        )
    images = image_making.decode(
        pipeline.vae, latents, latent_scale=pipeline.latent_scale,
        batch_size=min(request.batch_size, len(ids)),
    )
    return Samples(latent_sampling.initial_noise(request.seed, ids, shape), latents, images)


def protocol_of(request: Request) -> Protocol:
    """How its images are drawn; UsageError for settings that cannot be."""
    if not request.prompts:
        raise UsageError("there is no prompt", remedy="give one, or a file with --prompts")
    return Protocol(
        "sample", "digits", len(request.prompts) * request.count, sampler=request.sampler,
        num_inference_steps=request.num_inference_steps, eta=request.eta,
        guidance_scale=request.guidance_scale, seed=request.seed, tome=request.tome,
        tome_mlp=request.tome_mlp,
    )


def describe(request: Request) -> dict[str, Any]:
    """What the images depend on beside the weights, as JSON values."""
    shown = {k: getattr(request, k) for k in request.__dataclass_fields__ if k != "prompts"}
    return {"prompts": list(request.prompts), **shown}


def check_output(output: Path, count: int) -> None:
    """UsageError if `write` would refuse it for `count` images, before anything is drawn.

    A folder may hold images that will be written again, but no others: nobody could tell them
    from these, `harness fid` on the folder least of all.
    """
    if output.suffix:
        if output.suffix.lower() != ".png":
            raise UsageError(
                f"{output}: images are written as .png", remedy="name a .png or a folder"
            )
        return
    kinds = {f".{extension}" for extension in EXTENSIONS}
    mine = set(_numbered(output, count))
    there = output.iterdir() if output.is_dir() else ()
    others = sorted(path for path in there if path.suffix.lower() in kinds and path not in mine)
    if others:
        raise UsageError(
            f"{output} holds {counted(len(others), 'image')} that would not be written again, "
            f"{others[0].name} for one",
            remedy="give another -o, or move them away; nothing there was touched",
        )


def _numbered(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number:06d}.png" for number in range(count)]


def write(samples: Samples, output: Path, *, columns: int | None = None) -> list[Path]:
    """Write a .png (one image, or a grid of `columns`), or a directory of images; the paths."""
    from PIL import Image

    if output.suffix.lower() == ".png":
        if len(samples.images) > 1:
            image_grid.save_grid(samples.images, output, columns=columns)
        else:
            with files.atomic_path(output) as temporary:
                Image.fromarray(samples.images[0]).save(temporary, format="PNG")
        return [output]
    check_output(output, len(samples.images))
    paths = _numbered(output, len(samples.images))
    for path, image in zip(paths, samples.images, strict=True):
        with files.atomic_path(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
    return paths


def write_latents(samples: Samples, path: Path) -> Path:
    """Write noise, latents and images as an .npz; returns `path`."""
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, noise=samples.noise, latents=samples.latents, images=samples.images)
    return path

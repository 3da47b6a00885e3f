"""Token merging's speed, and what it does to images: `python -m tests.bench.bench_tome`.

Speed: `small` at 256x256 (32x32 latents, 334 tokens), one guided step (batch 2), the three kinds
taking turns within one run, so that what else the machine does hits them alike; the CPU time shows
what is left of it where the machine is busy. Quality: PSNR of
images against those drawn without merging, from a run or a pipeline's folder if one is given
(`--images RUN_OR_DIR`), else from an untrained `small`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from harness.base import paddle_env

paddle_env.require_paddle()

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from eval import protocols  # noqa: E402
from eval.evaluation import sample_prompts  # noqa: E402
from eval.sampling import image_making, latent_sampling  # noqa: E402
from harness import configs, runs  # noqa: E402
from models.diffusion import Schedule  # noqa: E402
from models.pretrained import autoencoder  # noqa: E402
from models.uvit import UViT  # noqa: E402

KINDS = {"none": (0.0, False), "attention": (1.0, False), "attention and MLP": (1.0, True)}
PROMPTS = ["a handwritten seven", "the digit three", "a photo of a nought", "a two"]


def untrained(batch: int):
    """(small, its inputs): seeded, so that two runs measure the same."""
    model = UViT(**configs.load("small").model.model_dump())
    model.eval()
    random = np.random.default_rng(0)
    x = paddle.to_tensor(random.standard_normal((batch, 4, 32, 32), np.float32))
    context = paddle.to_tensor(random.standard_normal((batch, 77, 768), np.float32))

    def predict() -> np.ndarray:
        with paddle.no_grad():
            return model(x, 500, encoder_hidden_states=context).sample.numpy()

    return model, predict


def step_times(ratio: float, rounds: int, batch: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of one network step for each kind, in turns; the first round warms up."""
    model, predict = untrained(batch)
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind, (share, mlp) in KINDS.items():
            model.apply_tome(ratio * share, merge_mlp=mlp)
            predict()  # makes what all steps share
            began, began_cpu = time.perf_counter(), time.process_time()
            predict()
            took = time.perf_counter() - began, time.process_time() - began_cpu
            if number:
                times[kind].append(took)
    return times


def psnr(images: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images in dB: 10 log10(255^2 / mean squared error)."""
    error = float(np.mean((images.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def image_psnr(source: Path, ratios: list[float]) -> dict[tuple[float, bool], float]:
    """PSNR in dB of merged images against unmerged ones, by (ratio, MLP too)."""
    folder = (source / "model_index.json").is_file()
    opened = sample_prompts.open_folder if folder else sample_prompts.open_run
    pipeline = opened(source if folder else runs.load(source))

    def images(ratio: float, mlp: bool) -> np.ndarray:
        request = sample_prompts.Request(
            PROMPTS, 4, guidance_scale=2.0, tome=ratio, tome_mlp=mlp, batch_size=16
        )
        return sample_prompts.draw(pipeline, request).images

    plain = images(0.0, False)
    return {
        (r, mlp): psnr(images(r, mlp), plain)
        for r in ratios for mlp in (False, True)
    }


def untrained_psnr(ratios: list[float]) -> dict[tuple[float, bool], float]:
    """PSNR in dB of 256x256 images that an untrained `small` draws in ten steps, decoded by the
    tests' VAE, which takes latents of any size."""
    model, _ = untrained(1)
    context = np.random.default_rng(2).standard_normal((2, 77, 768), np.float32)
    vae = autoencoder.load(Path(__file__).parents[1] / "assets" / "vae")

    def images(ratio: float, mlp: bool) -> np.ndarray:
        protocol = protocols.Protocol(
            "bench", "digits", 1, num_inference_steps=10, tome=ratio, tome_mlp=mlp
        )
        latents = latent_sampling.sample_latents(
            model, context[:1], context[1], [0], protocol=protocol,
            alphas_cumprod=Schedule().alphas_cumprod, batch_size=1,
        )
        return image_making.decode(vae, latents, latent_scale=0.9815, batch_size=1)

    plain = images(0.0, False)
    return {
        (r, mlp): psnr(images(r, mlp), plain)
        for r in ratios for mlp in (False, True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--images", type=Path, metavar="RUN_OR_DIR")
    options = parser.parse_args()
    times = step_times(options.ratio, options.rounds, options.batch)
    title = f"ratio {options.ratio}"
    heads = f"{'ms/step':>10}{'speed-up':>10}{'CPU ms/step':>14}{'speed-up':>10}"
    print(f"{title:<20}{heads}   (medians)")
    for kind in KINDS:
        row = f"{kind:<20}"
        for clock, width in ((0, 10), (1, 14)):
            plain, middle = (statistics.median(t[clock] for t in times[k]) for k in ("none", kind))
            row += f"{middle * 1e3:>{width}.1f}{plain / middle:>9.2f}x"
        print(row)
    ratios = [0.25, 0.5, 0.75]
    found = image_psnr(options.images, ratios) if options.images else untrained_psnr(ratios)
    what = "images" if options.images else "images of an untrained small, 256x256"
    print(f"\nPSNR against no merging ({what})")
    for (ratio, mlp), value in found.items():
        print(f"ratio {ratio:<5} {'attention and MLP' if mlp else 'attention':<20}{value:6.1f} dB")


if __name__ == "__main__":
    main()

"""Run directories in the contract's format, without training: for tests of reports.

Numbers are made up from the seed, plausible in shape and the same every time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from harness import configs, runs
from harness.base import seeds

CPU = "Fabricated CPU @ 2 GHz (avx512f)"
PROTOCOL = {
    "name": "coco-ddim50", "sampler": "ddim", "num_inference_steps": 50, "eta": 0.0,
    "guidance_scale": 2.0, "weights": "ema", "dtype": "float32",
    "captions": "1f" * 32, "reference": "2e" * 32, "features": "inception:3d",
}  # fmt: skip


def run(
    directory: Path, config: str = "small", *, seed: int = 1234, sets: tuple[str, ...] = (),
    steps: int = 200, log_steps: int = 10, images_per_second: float = 100.0,
    device: str = CPU, world_size: int = 1, device_bytes: int | None = None,
    loss: float = 0.1, **fingerprint: Any,
) -> Path:
    """A run of `steps` steps with logs and run.json, no evaluation (see `evaluate`)."""
    parsed = configs.load(config, sets)
    stack = {
        "python": "3.11.7", "machine": "x86_64", "package.paddlepaddle": "2.6.2",
        "paddle.commit": "c" * 40, "device": device, "driver": None, "world_size": world_size,
        "env.OMP_NUM_THREADS": "2", **fingerprint,
    }  # fmt: skip
    runs.create(
        directory, parsed, seed, fingerprint=stack, commit="d" * 40, data={"digest": "e" * 64}
    )
    rng = seeds.generator(seed, "fabricate", len(Path(config).name))
    at = sorted({1, *range(log_steps, steps + 1, log_steps), steps}) if steps else []
    batch = parsed.train.global_batch_size
    metrics, timing, previous, now = [], [], 0, 1_760_000_000.0
    for step in at:
        value = loss + 0.9 * 2.0 ** (-step / 40) + 0.01 * rng.standard_normal()
        metrics.append({"step": step, "loss": value, "loss_hex": float(value).hex(), "lr": 2e-4})
        step_ms = 1000 * batch / images_per_second * (1 + 0.02 * rng.standard_normal())
        timed = 0 if step == 1 else step - previous
        seconds = (step - previous) * step_ms / 1000
        now += seconds
        timing.append({
            "step": step, "time": now,
            "images_per_second": 1000 * batch / step_ms if timed else None,
            "step_ms": step_ms if timed else None,
            "step_ms_p95": step_ms * 1.1 if timed else None,
            "data_wait_share": 0.02 if timed else None, "peak_device_bytes": device_bytes,
            "peak_host_bytes": int(2e9 + step * 1e5), "steps_timed": timed, "seconds": seconds,
        })  # fmt: skip
        previous = step
    write_lines(directory / "metrics.jsonl", metrics)
    write_lines(directory / "timing.jsonl", timing)
    return directory


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def evaluate(
    directory: Path, step: int, metrics: dict[str, Any], *, n_samples: int = 30_000,
    **protocol: Any,
) -> Path:
    """One finished evaluation of the run; `protocol` changes entries of PROTOCOL."""
    values = {**PROTOCOL, **protocol}
    distance = metrics.get("fid")
    result = {
        "schema": 1, "step": step, "ema_sha256": "a" * 64, "protocol": values,
        "n_samples": n_samples, "metrics": metrics,
        "uncertainty": {
            "fid": distance and {"low": distance * 0.97, "high": distance * 1.03, "level": 0.9},
            "kid": {"standard_error": 0.0004},
        },
        "validation": {"standard_error": 0.001}, "timing": {"seconds": 12.5},
    }  # fmt: skip
    folder = runs.load(directory).evaluation(step, values["name"])
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


PROMPTS = ("a handwritten three", "a seven in ink", "the digit zero", "one five, scanned")


def samples(
    directory: Path, step: int, *, noise: float, columns: int = 4, tile: int = 64,
    prompts: tuple[str, ...] = PROMPTS,
) -> Path:  # fmt: skip
    """A sample grid of the run_vis prompts; `noise` 1 is a mess, 0 is clean."""
    rng = np.random.default_rng(step)
    image = Image.new("RGB", (tile * columns, tile), "white")
    draw = ImageDraw.Draw(image)
    for i in range(columns):
        draw.text((i * tile + 20, 12), "3705"[i % 4], fill=(20, 20, 30), font_size=36)
    mess = rng.integers(0, 256, (tile, tile * columns, 3))
    pixels = (1 - noise) * np.asarray(image, dtype=float) + noise * mess
    path = runs.load(directory).sample_grid(step)
    path.parent.mkdir(exist_ok=True)
    text = PngInfo()
    text.add_text("prompts", json.dumps(prompts[:columns]))
    text.add_text("columns", str(columns))
    Image.fromarray(pixels.astype(np.uint8)).save(path, pnginfo=text)
    return path


def pair(root: Path) -> list[Path]:
    """Two comparable runs with evaluations and samples along the way: small and small_deep."""
    made = []
    for name, speed, best in (("small", 120.0, 9.0), ("small_deep", 90.0, 7.0)):
        directory = run(
            root / name, name, images_per_second=speed, device="NVIDIA A100-SXM4-80GB",
            device_bytes=int(9e9 if name == "small" else 12e9), loss=best / 90,
        )
        for step in (0, 50, 100, 200):
            noise = 0.5 ** (step / 40)
            fid = best + 200 * noise
            evaluate(directory, step, {
                "fid": fid, "fid_infinity": fid - 0.5, "kid": 0.002 + noise / 10,
                "precision": 0.7, "recall": None, "accuracy": 0.9 - 0.8 * noise,
                "val_loss": best / 90 + noise,
            })  # fmt: skip
            samples(directory, step, noise=min(0.9, noise))
        made.append(directory)
    return made

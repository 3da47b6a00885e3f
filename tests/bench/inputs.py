"""The same weights and batches for every side: a folder that workers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BATCHES = "batches.npz"
KEYS = ("latents", "noise", "timesteps", "context")


def write(folder: Path, model: dict, *, batch: int, count: int, seed: int = 0) -> None:
    """`count` random training batches of `batch` samples for a model of this config section."""
    random = np.random.default_rng(seed)
    side = model["sample_size"]
    image = (batch, model["in_channels"], side, side)
    text = (batch, model["num_text_tokens"], model["clip_dim"])
    arrays = {}
    for i in range(count):
        arrays[f"latents{i}"] = random.standard_normal(image, np.float32)
        arrays[f"noise{i}"] = random.standard_normal(image, np.float32)
        arrays[f"timesteps{i}"] = random.integers(1, 1001, batch)
        arrays[f"context{i}"] = random.standard_normal(text, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / BATCHES, **arrays)


def read(folder: Path) -> list[dict[str, np.ndarray]]:
    """The batches, each with `latents`, `noise` [B, C, H, W], `timesteps` [B], `context`."""
    with np.load(folder / BATCHES) as file:
        arrays = dict(file)
    return [
        {key: arrays[f"{key}{i}"] for key in KEYS} for i in range(len(arrays) // len(KEYS))
    ]


def context(folder: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    """(text features [images, T, D] to sample from, the unconditional ones [T, D])."""
    first = read(folder)[0]["context"]
    repeated = np.concatenate([first] * (images // len(first) + 1))[:images]
    return repeated, np.zeros(first.shape[1:], np.float32)


def initial_noise(folder: Path, images: int) -> np.ndarray:
    """Standard normal latents [images, C, H, W] that sampling starts from."""
    shape = read(folder)[0]["noise"].shape[1:]
    return np.random.default_rng(7).standard_normal((images, *shape), np.float32)

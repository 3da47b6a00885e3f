"""Small data and configs that tests make: the real formats, tiny sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import configs
from harness.base import seeds

TINY = b"""
name = "tiny"

[model]
sample_size = 8
patch_size = 2
num_layers = 2
num_attention_heads = 2
attention_head_dim = 16
clip_dim = 16
num_text_tokens = 4

[data]
num_workers = 2

[optim]
warmup_steps = 4

[train]
max_steps = 6
global_batch_size = 8
micro_batch_size = 4
log_steps = 1
save_steps = 3
image_steps = 0
eval_steps = 0

[ema]
decay = 0.9
"""


def tiny_config(*overrides: str) -> configs.Config:
    """A config that trains a step in milliseconds."""
    return configs.parse(TINY, source="tiny", overrides=overrides)


def write_tiny_config(path: Path) -> Path:
    """The tiny config as a file, for tests of the command line."""
    path.write_bytes(TINY)
    return path


def write_features(
    directory: Path, *, images: int = 20, captions: int = 2, channels: int = 4, size: int = 8,
    tokens: int = 4, width: int = 16,
) -> Path:
    """A data set in coco256_features' format: train/, val/, run_vis/, empty_context.npy."""
    for split in ("train", "val"):
        folder = directory / split
        folder.mkdir(parents=True)
        for image in range(images):
            draw = seeds.generator(0, split, image)
            moments = draw.standard_normal((2 * channels, size, size), dtype=np.float32)
            np.save(folder / f"{image}.npy", moments)
            for caption in range(captions):
                context = draw.standard_normal((tokens, width), dtype=np.float32)
                np.save(folder / f"{image}_{caption}.npy", context)
    np.save(directory / "empty_context.npy", np.zeros((tokens, width), np.float32))
    (directory / "run_vis").mkdir()
    for number, prompt in enumerate(("a cat", "a dog on a mat")):
        entry = np.empty(2, dtype=object)
        entry[0] = prompt
        entry[1] = seeds.generator(1, "vis", number).standard_normal(
            (tokens, width), dtype=np.float32
        )
        np.save(directory / "run_vis" / f"{number}.npy", entry, allow_pickle=True)
    return directory


def draw(source, g: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Sample g of a `data.Source`: latents, noise, timestep and context."""
    batch = source.batch(0, range(g, g + 1))
    return batch.latents[0], batch.noise[0], int(batch.timesteps[0]), batch.context[0]

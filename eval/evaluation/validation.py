"""Validation loss at fixed timesteps, images, captions and noise: the sensitive gate.

As MLPerf Training's text-to-image benchmark has judged since FLUX.1: eight equidistant timesteps,
the same noise every time. What is left between two models is what differs between them, so it
tells them apart long before FID does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.captions import CaptionList
from eval.sampling.latent_sampling import inference, pad
from harness.base import seeds
from harness.data import sample_moments
from harness.distributed.process_group import World

LEVELS = 8


def timesteps(num_train_timesteps: int) -> list[int]:
    """The middles of eight equal parts of 1..N: 63, 188, 313, ..., 938 of 1000."""
    return [int((k + 0.5) * num_train_timesteps / LEVELS + 0.5) for k in range(LEVELS)]


def validation_loss(
    model: Any, captions: CaptionList, *, images: int, schedule: Any, latent_scale: float,
    batch_size: int, world: World | None = None,
) -> dict[str, Any]:
    """Mean squared error of the predicted noise over the first `images` of `captions`.

    Latents and noise of image j depend on (captions.seed, j) alone; the network runs at
    `batch_size`, padded. `schedule` is a `models.diffusion.Schedule`. The processes of `world`
    (all of them must call) take batches in turn, and all get the same result.
    Returns {"loss", "standard_error", "timesteps", "per_timestep", "images"}, plain values; the
    standard error is over images.
    """
    world = world or World.alone()
    images = min(images, len(captions))
    levels = timesteps(schedule.num_train_timesteps)
    losses = np.zeros((images, len(levels)))
    with inference(model):
        for first in range(0, images, batch_size)[world.rank :: world.size]:
            last = min(first + batch_size, images)
            latents, noise = _draw(captions, range(first, last), latent_scale)
            context = captions.contexts(first, last)
            padded = [pad(a, batch_size) for a in (latents, noise, context)]
            for column, n in enumerate(levels):
                found = _losses(model, padded[0], padded[1], padded[2], n, schedule)
                losses[first:last, column] = found[: last - first]
    # Every entry is one process's loss and the others' zeros: the sum is exact.
    shares: list[Any] = world.gather(losses.reshape(-1))
    losses = sum(shares).reshape(losses.shape)
    each = losses.mean(axis=1)
    return {
        "loss": float(each.mean()),
        "standard_error": float(each.std(ddof=1) / np.sqrt(images)) if images > 1 else None,
        "timesteps": levels,
        "per_timestep": losses.mean(axis=0).tolist(),
        "images": images,
    }


def _draw(captions: CaptionList, ids: range, latent_scale: float) -> tuple[np.ndarray, np.ndarray]:
    latents, noise = [], []
    for j in ids:
        random = seeds.generator(captions.seed, "validation", j)
        moments = captions.split.moments(int(captions.pairs[j, 0]))
        latents.append(sample_moments(moments, random) * np.float32(latent_scale))
        noise.append(random.standard_normal(latents[-1].shape, np.float32))
    return np.stack(latents), np.stack(noise)


def _losses(
    model: Any, latents: np.ndarray, noise: np.ndarray, context: np.ndarray, n: int, schedule: Any
) -> np.ndarray:
    """Mean squared error of each sample at timestep n, float64 [B]."""
    import paddle

    steps = np.full(len(latents), n, np.int64)
    noisy = schedule.add_noise(latents, noise, steps)
    predicted = model(
        noisy, paddle.to_tensor(steps), encoder_hidden_states=paddle.to_tensor(context)
    ).sample
    error = predicted.astype("float32").numpy().astype(np.float64) - noise
    return np.square(error).mean(axis=(1, 2, 3))

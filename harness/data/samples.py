"""A training sample, drawn by its number: caption, condition, latent, timestep and noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.base import seeds
from harness.configs import Config
from harness.data.features import Split, empty_context
from harness.data.order import Sampling
from harness.data.splits import open_split


@dataclass(frozen=True)
class Batch:
    """One step's part of the global batch; B samples, all numpy.

    latents, noise float32 [B, C, h, w]; timesteps int64 [B] in 1..T; context
    float32 [B, T, D].
    """

    step: int
    latents: np.ndarray
    noise: np.ndarray
    timesteps: np.ndarray
    context: np.ndarray


@dataclass(frozen=True)
class Source:
    """Everything needed to draw training samples."""

    split: Split
    empty: np.ndarray
    sampling: Sampling
    seed: int
    latent_scale: float
    condition_drop_prob: float
    num_train_timesteps: int

    def batch(self, step: int, numbers: range, *, context: np.ndarray | None = None) -> Batch:
        """The samples with global numbers `numbers`, of 0-based `step`, stacked.

        `context`: memory for the batch's context (`context_shape(numbers)`, float32),
        to be used in place of new.
        """
        channels, *size = self.split.moments_shape
        latents = np.empty((len(numbers), channels // 2, *size), np.float32)
        noise = np.empty_like(latents)
        timesteps = np.empty(len(numbers), np.int64)
        if context is None:
            context = np.empty(self.context_shape(numbers), np.float32)
        moments = np.empty(self.split.moments_shape, np.float32)
        for row, g in enumerate(numbers):
            timesteps[row] = self._draw(g, moments, latents[row], noise[row], context[row])
        return Batch(step, latents, noise, timesteps, context)

    def _draw(self, g: int, moments: np.ndarray, latents: np.ndarray, noise: np.ndarray,
              context: np.ndarray) -> int:
        """Sample g, written into the arrays; returns its timestep.

        The order of the draws is the format: another order would be other samples.
        """
        image = self.sampling.image(g)
        random = seeds.generator(self.seed, "sample", g)
        caption = int(random.integers(self.split.captions[image]))
        dropped = random.random() < self.condition_drop_prob
        timestep = int(random.integers(1, self.num_train_timesteps + 1))
        self.split.read_moments(image, moments)
        np.multiply(sample_moments(moments, random), np.float32(self.latent_scale), out=latents)
        random.standard_normal(dtype=np.float32, out=noise)
        if dropped:
            np.copyto(context, self.empty)
        else:
            self.split.read_context(image, caption, context)
        return timestep

    def context_shape(self, numbers: range) -> tuple[int, ...]:
        """Shape of the context of a batch of these samples."""
        return (len(numbers), *self.split.context_shape)

    def batch_bytes(self, numbers: range) -> int:
        """Memory that a batch of these samples takes."""
        moments, context = self.split.moments_shape, self.split.context_shape
        return len(numbers) * (4 * (int(np.prod(moments)) + int(np.prod(context))) + 8)


def open_source(config: Config, seed: int, directory: Path) -> Source:
    """The training samples of `config` in `directory`; DataError if its shapes do not fit."""
    model = config.model
    context_shape = (model.num_text_tokens, model.clip_dim)
    split = open_split(
        directory, "train",
        moments_shape=(2 * model.in_channels, model.sample_size, model.sample_size),
        context_shape=context_shape,
    )
    # One sample now: wrong shapes are found before anything is built or written.
    split.moments(0), split.context(0, 0)
    return Source(
        split=split,
        empty=empty_context(directory, context_shape),
        sampling=Sampling(split, seed=seed, global_batch_size=config.train.global_batch_size),
        seed=seed,
        latent_scale=config.diffusion.latent_scale,
        condition_drop_prob=config.data.condition_drop_prob,
        num_train_timesteps=config.diffusion.num_train_timesteps,
    )


def sample_moments(moments: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw latents [C,h,w] from moments [2C,h,w] (mean, log variance), unscaled float32.

    The log variance is clamped to [-30, 20] (DiagonalGaussianDistribution of
    CompVis/latent-diffusion, which made the features).
    """
    mean, log_variance = np.split(moments, 2)
    std = np.exp(np.float32(0.5) * np.clip(log_variance, -30.0, 20.0))
    return mean + std * random.standard_normal(mean.shape, dtype=np.float32)

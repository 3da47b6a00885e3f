"""Training data: coco256_features on disk, and which sample is which.

Global sample number g = step * global_batch_size + position decides everything
about a training sample: which image, which caption, whether the condition is
dropped, the latent's draw, the timestep and the noise. Nothing depends on
worker count, micro-batch, world size or how often the run was resumed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness import files, seeds
from harness.configs import Config
from harness.errors import DataError, EnvironmentFault


@dataclass(frozen=True)
class Split:
    """One split (train or val): moments of image i, contexts of its captions k.

    `captions[i]`: number of captions of image i. Shapes: moments [2C, h, w] float32
    (mean, log variance), context [T, D] float32.
    """

    directory: Path
    captions: tuple[int, ...]
    moments_shape: tuple[int, int, int]
    context_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.captions)

    def moments(self, image: int) -> np.ndarray:
        """Mean and log variance of image's latents, float32 [2C, h, w]."""
        path = self.directory / f"{image}.npy"
        return _finite(files.load_npy(path, dtype="float32", shape=self.moments_shape), path)

    def context(self, image: int, caption: int) -> np.ndarray:
        """Text features of one caption, float32 [T, D]."""
        path = self.directory / f"{image}_{caption}.npy"
        return _finite(files.load_npy(path, dtype="float32", shape=self.context_shape), path)


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


def open_split(
    directory: Path, split: str, *, moments_shape: tuple[int, int, int],
    context_shape: tuple[int, int],
) -> Split:
    """List a split's files once and check that its numbering has no gap.

    EnvironmentFault if the directory is missing, DataError if it is not in
    coco256_features' form.
    """
    folder = Path(directory) / split
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError as error:
        raise EnvironmentFault(
            f"training data {folder} cannot be read: {error.strerror}",
            remedy="give --data DIR; `harness data digits DIR` makes a small set, the README "
            "says how to get coco256_features",
        ) from error
    counts = _count_captions(names, folder)
    return Split(folder, counts, moments_shape, context_shape)


def _count_captions(names: list[str], folder: Path) -> tuple[int, ...]:
    images: set[int] = set()
    captions: dict[int, set[int]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        image, underscore, caption = stem.partition("_")
        if suffix != ".npy" or not image.isdigit() or (underscore and not caption.isdigit()):
            continue
        if underscore:
            captions.setdefault(int(image), set()).add(int(caption))
        else:
            images.add(int(image))
    if not images:
        raise DataError(f"{folder} holds no features (0.npy, 0_0.npy, ...)")
    for image in range(len(images)):
        if image not in images:
            raise DataError(f"{folder}/{image}.npy is missing (there are {len(images)} images)")
        found = captions.get(image, set())
        if not found or found != set(range(len(found))):
            missing = next(k for k in range(len(found) + 1) if k not in found)
            raise DataError(f"{folder}/{image}_{missing}.npy is missing")
    return tuple(len(captions[image]) for image in range(len(images)))


def empty_context(directory: Path, context_shape: tuple[int, int]) -> np.ndarray:
    """Text features of the empty caption, float32 [T, D]: what a dropped condition becomes."""
    path = Path(directory) / "empty_context.npy"
    return _finite(files.load_npy(path, dtype="float32", shape=context_shape), path)


def run_vis(directory: Path, context_shape: tuple[int, int]) -> tuple[list[str], np.ndarray]:
    """The prompts that are sampled while training: texts, and contexts float32 [N, T, D]."""
    folder = Path(directory) / "run_vis"
    numbered = [p for p in folder.glob("*.npy") if p.stem.isdigit()]
    prompts, contexts = [], []
    for path in sorted(numbered, key=lambda p: int(p.stem)):
        entry = files.load_object_npy(path)
        if len(entry) != 2 or not isinstance(entry[0], str):
            raise DataError(f"{path} is not a pair (prompt, context)")
        context = np.asarray(entry[1], dtype=np.float32)
        if context.shape != context_shape:
            raise DataError(
                f"{path} has a context of shape {list(context.shape)}, "
                f"expected {list(context_shape)}"
            )
        prompts.append(str(entry[0]))
        contexts.append(_finite(context, path))
    return prompts, np.stack(contexts) if contexts else np.zeros((0, *context_shape), np.float32)


class Sampling:
    """Which sample global number g is: a pure function of (seed, g).

    The order is reshuffled each epoch; the last partial batch of an epoch is
    dropped (official U-ViT: `drop_last=True`).
    """

    def __init__(self, split: Split, *, seed: int, global_batch_size: int):
        if len(split) < global_batch_size:
            raise DataError(
                f"{split.directory} has {len(split)} images, fewer than one batch of "
                f"{global_batch_size}",
                remedy="lower train.global_batch_size",
            )
        self.steps_per_epoch = len(split) // global_batch_size
        self._per_epoch = self.steps_per_epoch * global_batch_size
        self._order = lru_cache(maxsize=2)(
            lambda epoch: seeds.generator(seed, "order", epoch).permutation(len(split))
        )

    def image(self, g: int) -> int:
        """Number of the image that global sample g is of."""
        epoch, position = divmod(g, self._per_epoch)
        return int(self._order(epoch)[position])


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

    def draw(self, g: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        """Sample g: (latents [C,h,w], noise [C,h,w], timestep in 1..T, context [T,D])."""
        image = self.sampling.image(g)
        random = seeds.generator(self.seed, "sample", g)
        caption = int(random.integers(self.split.captions[image]))
        dropped = random.random() < self.condition_drop_prob
        timestep = int(random.integers(1, self.num_train_timesteps + 1))
        moments = self.split.moments(image)
        latents = sample_moments(moments, random) * np.float32(self.latent_scale)
        noise = random.standard_normal(latents.shape, dtype=np.float32)
        context = self.empty if dropped else self.split.context(image, caption)
        return latents, noise, timestep, context

    def batch(self, step: int, numbers: range) -> Batch:
        """The samples with global numbers `numbers`, of 0-based `step`, stacked."""
        latents, noise, timesteps, context = zip(*(self.draw(g) for g in numbers), strict=True)
        return Batch(
            step, np.stack(latents), np.stack(noise), np.array(timesteps, np.int64),
            np.stack(context),
        )


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


def prefetch(source: Source, parts: Iterator[tuple[int, range]], workers: int) -> Iterator[Batch]:
    """Batches for (step, sample numbers) in order, drawn ahead on `workers` threads.

    At most workers + 1 batches exist ahead of the consumer. With 0 workers they are
    drawn when asked for. The batches are the same whatever the number.
    """
    if workers == 0:
        yield from (source.batch(step, numbers) for step, numbers in parts)
        return
    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="data") as pool:
        try:
            for step, numbers in parts:
                ahead.append(pool.submit(source.batch, step, numbers))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _finite(array: Any, path: Path) -> np.ndarray:
    # The sum is finite unless an element is not (or overflows, which is as bad).
    if not np.isfinite(array.sum(dtype=np.float64)):
        raise DataError(f"{path} holds NaN or infinite values", remedy="extract or fetch it again")
    return array

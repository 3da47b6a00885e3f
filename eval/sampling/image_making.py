"""Making the images of an evaluation, and finishing them into blocks on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from eval.captions import CaptionList
from eval.protocols import Protocol
from eval.sampling import image_grid, latent_sampling
from eval.sampling.finished_blocks import STAGES, Block, Blocks
from harness.base.errors import EnvironmentFault
from harness.configs import Config

GRID_IMAGES = 64  # the first of an evaluation, shown in samples.png


class Maker:
    """Draws and decodes the images of a span of samples."""

    def __init__(
        self, config: Config, protocol: Protocol, captions: CaptionList, model: Any,
        vae_directory: Path, *, batch_size: int, decode_batch_size: int,
    ):
        from models.diffusion import Schedule
        from models.pretrained import autoencoder

        self._config, self._protocol = config, protocol
        self._captions, self._model = captions, model
        self._batch_size, self._decode_batch_size = batch_size, decode_batch_size
        self._vae = autoencoder.load(vae_directory)
        self._alphas_cumprod = Schedule.of(config.diffusion).alphas_cumprod

    def images(self, first: int, last: int) -> tuple[np.ndarray, dict[str, float]]:
        """uint8 [n, H, W, 3] of samples first..last-1, and the seconds of network and vae."""
        began = time.perf_counter()
        latents = latent_sampling.sample_latents(
            self._model, self._captions.contexts(first, last), self._captions.empty_context,
            range(first, last), protocol=self._protocol,
            alphas_cumprod=self._alphas_cumprod, batch_size=self._batch_size,
        )
        sampled = time.perf_counter()
        images = decode(
            self._vae, latents, latent_scale=self._config.diffusion.latent_scale,
            batch_size=self._decode_batch_size,
        )
        return images, {"network": sampled - began, "vae": time.perf_counter() - sampled}


def decode(
    vae: Any, latents: np.ndarray, *, latent_scale: float, batch_size: int
) -> np.ndarray:
    """Scaled latents float32 [n, C, h, w] -> uint8 images [n, H, W, 3].

    The VAE runs at `batch_size`, padded. EnvironmentFault if it gives NaN.
    """
    parts = []
    unscaled = latents / np.float32(latent_scale)
    for first in range(0, len(latents), batch_size):
        chunk = unscaled[first : first + batch_size]
        images = np.asarray(vae.decode(latent_sampling.pad(chunk, batch_size)))[: len(chunk)]
        if not np.isfinite(images).all():
            raise EnvironmentFault(
                "decoded images hold NaN or infinity",
                remedy="the weights have diverged, or the VAE is not the one they were made for",
            )
        parts.append(image_grid.to_uint8(images))
    return np.concatenate(parts)


class Finisher:
    """Features and writing, off the critical path where the features are another process's."""

    def __init__(
        self, blocks: Blocks, network: Any, captions: CaptionList, scorer: Any = None,
        also: Mapping[str, Any] | None = None,
    ):
        """`scorer`: an `eval.features.clip_score.ClipScore`, or None. `also`: further networks,
        which see the same images."""
        self._blocks, self._network, self._captions = blocks, network, captions
        self._scorer, self._also = scorer, also or {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._pending: list[Future[None]] = []
        self.unrecorded = 0.0  # seconds of writing that no block on disk tells yet

    def __enter__(self) -> Finisher:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self._collect(0)

    def finish(self, block: int, images: np.ndarray, seconds: dict[str, float]) -> None:
        """Extract the features of a block's images and write it; errors show up later."""
        clip = self._clip(block, images, seconds)
        measured = None if self._network.concurrent else self._measure(images)
        self._collect(1)  # at most one block waits while the next is being sampled
        self._pending.append(
            self._pool.submit(self._write, block, images, clip, seconds, measured)
        )

    def _collect(self, keep: int) -> None:
        while len(self._pending) > keep:
            self._pending.pop(0).result()

    def _clip(self, block: int, images: np.ndarray, seconds: dict[str, float]) -> np.ndarray:
        if self._scorer is None:
            return np.full(len(images), np.nan)
        began = time.perf_counter()
        first, last = self._blocks.span(block)
        scores = self._scorer.score(images, (self._captions.texts or [])[first:last])
        seconds["features"] = time.perf_counter() - began
        return scores

    def _measure(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        began = time.perf_counter()
        features = np.asarray(self._network.extract(images), np.float32)
        labels = np.full(len(images), -1, np.int64)
        if self._captions.labels is not None and hasattr(self._network, "classify"):
            labels = np.asarray(self._network.classify(images), np.int64)
        return features, labels, time.perf_counter() - began

    def _write(
        self, block: int, images: np.ndarray, clip: np.ndarray, seconds: dict[str, float],
        measured: tuple[np.ndarray, np.ndarray, float] | None,
    ) -> None:
        features, labels, extraction = measured or self._measure(images)
        began = time.perf_counter()
        also = {name: network.extract(images) for name, network in self._also.items()}
        extraction += time.perf_counter() - began
        shown = images[: max(0, GRID_IMAGES - self._blocks.span(block)[0])]
        # A block cannot hold how long its own writing took; it holds that of the one before.
        extraction += seconds.get("features", 0.0)
        times = {**seconds, "features": extraction, "writing": self.unrecorded}
        content = Block(features, labels, clip, shown, np.array([times[s] for s in STAGES]), also)
        began = time.perf_counter()
        self._blocks.save(block, content)
        self.unrecorded = time.perf_counter() - began

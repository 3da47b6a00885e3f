"""Features of every network as an evaluation has them made, beside the bare forward passes.

Processes of their own, images handed over in files, resizing and all: what that costs on top. The
weights are random, at the published sizes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import Worker

PART = "features"


def rows(options: Options) -> Iterator[Row]:
    """Seconds for a few images."""
    with options.folder() as folder:
        yield _row(options, folder)


def _row(options: Options, folder: Path) -> Row:
    from tests.eval import peer, transformers

    images, size = (1, transformers.SMALL) if options.quick else (2, transformers.LARGE)
    peer.write_weights(folder / "inception.pth")
    for name in ("dinov2", "clip"):
        transformers.write(folder / name, name, size)
    given = {"folder": str(folder), "images": images}
    with (
        Worker(f"{__name__}:Features", threads=options.threads, **given) as whole,
        Worker(f"{__name__}:Forward", threads=options.threads, **given) as bare,
    ):
        told = [(whole.run(), bare.run()) for _ in range(options.rounds + 1)][1:]
    return share(
        PART, "features of Inception, DINOv2 and CLIP", "their forward passes",
        *(list(side) for side in zip(*told, strict=True)), target=1.05,
    )


class Features:
    """Images in memory -> features of each network, as an evaluation has them made."""

    def __init__(self, folder: str, images: int):
        from eval.features import networks

        self.pixels = np.random.default_rng(0).integers(0, 256, (images, 256, 256, 3), np.uint8)
        self.networks = [
            networks.in_torch("inception", Path(folder) / "inception.pth"),
            *(networks.in_torch(name, Path(folder) / name) for name in ("dinov2", "clip")),
        ]

    def run(self) -> float:
        """Seconds."""
        began = time.perf_counter()
        for network in self.networks:
            network.extract(self.pixels)
        return time.perf_counter() - began


class Forward:
    """The networks' forward passes alone, on images that are ready for them."""

    def __init__(self, folder: str, images: int):
        import torch

        from eval.features.inception_network import Inception
        from eval.features.transformer_network import Transformer

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        inception = Inception(Path(folder) / "inception.pth")
        self.passes = [(inception.network, torch.rand(images, 3, 256, 256).contiguous(
            memory_format=torch.channels_last))]
        for name in ("dinov2", "clip"):
            network = Transformer(name, Path(folder) / name)
            side = network.settings["image"]
            self.passes.append((network.forward, torch.randn(images, 3, side, side)))

    def run(self) -> float:
        """Seconds."""
        import torch

        began = time.perf_counter()
        with torch.inference_mode():
            for forward, batch in self.passes:
                forward(batch)
        return time.perf_counter() - began

"""Inception features: ours beside pytorch-fid's own loop, same weights, batches and threads.

The weights are random (the published ones need a download and cost the same); features must agree
to 1e-5, or the times would say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.options import Options
from tests.bench.rows import Row, faster
from tests.bench.worker import Worker

PART, BATCH = "inception", 10


def rows(options: Options) -> Iterator[Row]:
    """Seconds an image."""
    from tests.eval import peer

    images = 1 if options.quick else BATCH
    with options.folder() as folder:
        peer.write_weights(folder / "inception.pth")
        with Worker(
            "tests.bench.bench_inception:Networks", threads=options.threads,
            weights=str(folder / "inception.pth"), images=images,
        ) as worker:
            told = [(worker.ours(), worker.theirs()) for _ in range(options.rounds + 1)][1:]
            difference = worker.difference()
    if not difference <= 1e-5:
        raise ValueError(f"features differ by {difference} of their size")
    yield faster(
        PART, f"features, batch {images}, 299x299", "pytorch-fid",
        *([pair[side] / images for pair in told] for side in (0, 1)), unit="s/image", target=1.7,
    )


class Networks:
    """Both networks, and images 256 x 256 as samples are."""

    def __init__(self, weights: str, images: int):
        import os

        import torch
        from pytorch_fid.inception import InceptionV3

        from eval.inception_worker import DIMS, Extractor

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.extractor = Extractor(Path(weights), images)
        # `Extractor` has pointed pytorch-fid at these weights.
        self.plain = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[DIMS]]).eval()
        self.plain.to(self.extractor.device)
        random = np.random.default_rng(0)
        self.pixels = list(random.integers(0, 256, (images, 256, 256, 3), np.uint8))
        self.found: dict[str, np.ndarray] = {}

    def ours(self) -> float:
        """Seconds from pixels to features."""
        began = time.perf_counter()
        self.found["ours"] = self.extractor.batch(self.pixels)
        return time.perf_counter() - began

    def theirs(self) -> float:
        """The same as pytorch_fid.fid_score.get_activations does it, images already decoded."""
        import torch
        from torchvision.transforms.functional import to_tensor

        began = time.perf_counter()
        batch = torch.stack([to_tensor(image) for image in self.pixels])
        with torch.no_grad():
            predicted = self.plain(batch.to(self.extractor.device))[0]
        self.found["theirs"] = predicted.squeeze(3).squeeze(2).cpu().numpy()
        return time.perf_counter() - began

    def difference(self) -> float:
        """The largest difference of the features, relative to the largest feature."""
        ours, theirs = self.found["ours"], self.found["theirs"]
        return float(np.abs(ours - theirs).max() / np.abs(theirs).max())

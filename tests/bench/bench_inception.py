"""Inception features: ours beside pytorch-fid's own loop, same weights, batches and threads.

Each in a process of its own, as `harness eval` and `python -m pytorch_fid` have them. The weights
are random (the published ones need a download and cost the same); features must agree to 1e-5, or
the times would say nothing.
"""

from __future__ import annotations

import os
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
        given = {"weights": str(folder / "inception.pth"), "images": images}
        with (
            Worker(f"{__name__}:Ours", threads=options.threads, **given) as ours,
            Worker(f"{__name__}:Theirs", threads=options.threads, **given) as theirs,
        ):
            told = [(ours.run(), theirs.run()) for _ in range(options.rounds + 1)][1:]
            found, wanted = np.array(ours.features()), np.array(theirs.features())
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference <= 1e-5:
        raise ValueError(f"features differ by {difference} of the largest")
    yield faster(
        PART, f"features, batch {images}, 299x299", "pytorch-fid",
        *([pair[side] / images for pair in told] for side in (0, 1)), unit="s/image", target=1.7,
    )


class Side:
    """Images of 256 x 256, as samples are, and their features."""

    def __init__(self, images: int):
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        random = np.random.default_rng(0)
        self.pixels = list(random.integers(0, 256, (images, 256, 256, 3), np.uint8))

    def run(self) -> float:
        """Seconds from pixels to features."""
        began = time.perf_counter()
        self.found = self.extract()
        return time.perf_counter() - began

    def features(self) -> list[list[float]]:
        """What the last run found."""
        return self.found.tolist()


class Ours(Side):
    """`eval.features.inception_network`, in a process like its own."""

    def __init__(self, weights: str, images: int):
        from eval.features.inception_network import Inception
        from harness.base import paddle_env

        paddle_env.keep_freed_memory()
        super().__init__(images)
        self.network = Inception(Path(weights))

    def extract(self) -> np.ndarray:
        return self.network.features(self.pixels)


class Theirs(Side):
    """What pytorch_fid.fid_score.get_activations does, images already decoded."""

    def __init__(self, weights: str, images: int):
        import torch
        from pytorch_fid import inception

        from eval.features.inception_network import DIMS

        super().__init__(images)
        inception.load_state_dict_from_url = lambda *_, **__: torch.load(
            weights, map_location="cpu", weights_only=True
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        block = inception.InceptionV3.BLOCK_INDEX_BY_DIM[DIMS]
        self.network = inception.InceptionV3([block]).eval().to(self.device)

    def extract(self) -> np.ndarray:
        import torch
        from torchvision.transforms.functional import to_tensor

        batch = torch.stack([to_tensor(image) for image in self.pixels])
        with torch.no_grad():
            predicted = self.network(batch.to(self.device))[0]
        return predicted.squeeze(3).squeeze(2).cpu().numpy()

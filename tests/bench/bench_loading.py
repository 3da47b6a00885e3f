"""Training data: batches of 32 as training takes them, against PaddleMIX's np.load and np.stack.

Ours also draws latents, noise and timesteps. `tests.bench.bench_data` has more: a larger fixture,
single samples, float16, memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.options import Options
from tests.bench.rows import Row, faster
from tests.bench.worker import Worker

PART, BATCH = "loading", 32


def rows(options: Options) -> Iterator[Row]:
    """The plain and the packed form."""
    images = BATCH if options.quick else 8 * BATCH
    kinds = ("plain", "packed")
    took: dict[str, list[float]] = {kind: [] for kind in (*kinds, "paddlemix")}
    with options.folder() as folder, Worker(
        "tests.bench.bench_loading:Loading", threads=options.threads, folder=str(folder),
        images=images,
    ) as worker:
        for number in range(options.rounds + 1):
            for kind, each in took.items():
                seconds = worker.paddlemix() if kind == "paddlemix" else worker.ours(kind=kind)
                if number:
                    each.append(seconds)
    for kind in kinds:
        yield faster(PART, f"{images // BATCH} batches of {BATCH}, {kind}, from page cache",
                     "PaddleMIX's np.load", took[kind], took["paddlemix"])


class Loading:
    """A fixture of COCO's shapes, plain and packed."""

    def __init__(self, folder: str, images: int):
        from harness import configs, data
        from harness.data import pack
        from tests.bench import bench_data

        self.bench, self.images = bench_data, images
        self.plain = Path(folder) / "plain"
        bench_data.make(self.plain, images)
        pack.pack(self.plain, Path(folder) / "packed", context_dtype="float32")
        config = configs.load("small", ["train.global_batch_size=32"])
        self.sources = {
            kind: data.open_source(config, 1, Path(folder) / kind) for kind in ("plain", "packed")
        }
        self.order = np.random.default_rng(1).permutation(images).tolist()

    def ours(self, kind: str) -> float:
        """Seconds to draw every image once, on two threads."""
        return self.images / float(self.bench.rate(
            self.bench.drawn, self.sources[kind], self.images, 2)[0])

    def paddlemix(self) -> float:
        """Seconds to read and stack as many."""
        return self.images / float(self.bench.rate(
            self.bench.paddlemix_batches, self.plain / "train", self.order)[0])

"""Training data from the page cache, against PaddleMIX's ways.

Samples: moments and context of the packed form, each array its own, against np.load of two files.
Batches read: into a batch's memory, on the loader's threads, against np.load and np.stack. Batches
drawn: as training takes them, latents, noise and timesteps included, against np.load, np.stack and
the same draws by paddle, which PaddleMIX makes in its model; here 8,192 normal numbers a sample
take twice as long as reading the packed form does. `tests.bench.bench_data` has more: a larger
fixture, float16, memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.options import Options
from tests.bench.rows import Row, faster
from tests.bench.worker import Worker

PART, BATCH, TARGET = "loading", 32, 10.0
THREADS = 2
# (what ours does, in which form) and what of PaddleMIX's it is held against
SIDES = {
    ("samples", "packed"): "loaded",
    ("read", "packed"): "stacked", ("read", "plain"): "stacked",
    ("drawn", "packed"): "and_draws", ("drawn", "plain"): "and_draws",
}
THEIRS = {
    "loaded": "PaddleMIX's np.load", "stacked": "PaddleMIX's np.load, np.stack",
    "and_draws": "PaddleMIX's np.load, np.stack, draws",
}


def rows(options: Options) -> Iterator[Row]:
    """Samples, batches read and batches drawn."""
    images = BATCH if options.quick else 8 * BATCH
    ours: dict[tuple[str, str], list[float]] = {side: [] for side in SIDES}
    theirs: dict[str, list[float]] = {kind: [] for kind in THEIRS}
    with options.folder() as folder, Worker(
        "tests.bench.bench_loading:Loading", threads=options.threads, folder=str(folder),
        images=images,
    ) as worker:
        for number in range(options.rounds + 1):
            taken = {(what, form): getattr(worker, what)(form=form) for what, form in ours}
            against = {kind: getattr(worker, kind)() for kind in theirs}
            if number:
                for each, found in ((ours, taken), (theirs, against)):
                    for key, seconds in found.items():
                        each[key].append(seconds)
    for (what, form), kind in SIDES.items():
        name = f"{images // BATCH} batches of {BATCH} {what}, {form}"
        if what == "samples":
            name = f"{images} samples, {form}"
        yield faster(PART, name, THEIRS[kind], ours[what, form], theirs[kind],
                     target=TARGET if what == "samples" else None)


class Loading:
    """A fixture of COCO's shapes, plain and packed."""

    def __init__(self, folder: str, images: int):
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from harness import configs, data
        from harness.data.preparation import pack
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
        split = self.sources["packed"].split
        for image in self.order:  # rows are held against their checksums once: not what is timed
            for caption in range(bench_data.CAPTIONS):
                split.moments(image), split.context(image, caption)

    def samples(self, form: str) -> float:
        """Seconds to have every image and one of its contexts."""
        return self._seconds(self.bench.samples, self.sources[form].split, self.order)

    def read(self, form: str) -> float:
        """Seconds to read as much into batches' memory."""
        return self._seconds(self.bench.packed, self.sources[form].split, self.order, THREADS)

    def drawn(self, form: str) -> float:
        """Seconds to draw every image once, as training does."""
        return self._seconds(self.bench.drawn, self.sources[form], self.images, THREADS)

    def loaded(self) -> float:
        """Seconds of np.load of two files a sample."""
        return self._seconds(self.bench.paddlemix, self.plain / "train", self.order)

    def stacked(self) -> float:
        """Seconds of np.load and np.stack."""
        return self._seconds(self.bench.paddlemix_batches, self.plain / "train", self.order)

    def and_draws(self) -> float:
        """`stacked`, and what PaddleMIX's model draws for each batch in its forward pass."""
        import paddle

        began = time.perf_counter()
        self.stacked()
        moments = paddle.zeros([BATCH, 8, 32, 32])
        for _ in range(self.images // BATCH):
            mean, log_variance = moments.chunk(2, axis=1)
            std = paddle.exp(0.5 * paddle.clip(log_variance, -30.0, 20.0))
            latents = (mean + std * paddle.randn(mean.shape)) * 0.23010
            paddle.randn(latents.shape)
            np.random.choice(list(range(1, 1001)), (BATCH,))  # noqa: NPY002 - as there
        return time.perf_counter() - began

    def _seconds(self, work, *arguments) -> float:
        return self.images / float(self.bench.rate(work, *arguments)[0])

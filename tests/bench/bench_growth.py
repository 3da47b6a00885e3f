"""How times grow: a training step with the batch and with the model, an evaluation with N."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from harness import configs
from reports.tables import flops
from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Growth
from tests.bench.worker import Worker

PART = "growth"
MODELS = ("digits_tiny", "digits_tiny_deep", "small", "small_deep")


def rows(options: Options) -> Iterator[Growth]:
    """Exponents near 1 are what is expected; less where something is paid once."""
    batches = [1, 2] if options.quick else [1, 2, 4, 8, 16]
    seconds = [_step(options, "small", sides.settings(options, batch), batch) for batch in batches]
    yield Growth(PART, "training step of small, batch", batches, seconds, "s")

    names = MODELS[:2] if options.quick else MODELS
    sets = ["train.global_batch_size=4", "train.micro_batch_size=4"]
    seconds = [_step(options, name, sets, 4) for name in names]
    work = [4 * flops.training_flops(configs.load(n).model.model_dump()) / 1e9 for n in names]
    yield Growth(PART, f"training step, batch 4, GFLOP of {', '.join(names)}", work, seconds, "s")

    counts = [4, 8] if options.quick else [100, 200, 400, 800]
    with options.folder() as folder, Worker(
        "tests.bench.bench_growth:Evaluations", threads=options.threads, folder=str(folder),
        images=counts[-1],
    ) as worker:
        worker.evaluate(n=2)
        seconds = [worker.evaluate(n=count) for count in counts]
    yield Growth(PART, "evaluation of a tiny model, N", counts, seconds, "s")


def _step(options: Options, config: str, sets: list[str], batch: int) -> float:
    repeats = 1 if options.quick else 2
    with options.folder() as folder, sides.ours(folder, options, config, sets, batch) as worker:
        worker.step()
        return statistics.median(worker.step()["seconds"] for _ in range(repeats))


class Evaluations:
    """A tiny untrained model and the digits to judge it by, as many val images as samples."""

    def __init__(self, folder: str, images: int):
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from harness.runs import checkpoints
        from harness.training.step import Trainer
        from tests import fixtures, judged_data

        self.folder, self.done = Path(folder), 0
        self.config = fixtures.tiny_config()
        judged_data.write(self.folder / "data", images=images, captions=1, real=200)
        self.ema = Trainer(self.config, seed=1).average()
        self.digest = checkpoints.tensors_digest(self.ema)

    def evaluate(self, n: int) -> float:
        """Seconds to draw and judge `n` samples, of two steps."""
        from eval import protocols
        from eval.evaluation.evaluate import Task, evaluate

        protocol = protocols.get(
            "digits-ddim50", n_samples=n, num_inference_steps=2, loss_images=4
        )
        self.done += 1
        out = self.folder / f"eval{self.done}"
        task = Task(self.config, protocol, self.folder / "data", out, 0)
        began = time.perf_counter()
        evaluate(task, self.ema, self.digest)
        return time.perf_counter() - began

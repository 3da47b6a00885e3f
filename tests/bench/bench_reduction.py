"""What fixed-order reduction costs against fast: on 1, 2 and 4 workers of this machine.

Workers over gloo hold two trainers, which take steps in turns on the same samples: 6.0 million
parameters, global batch 16 in micro-batches of 2, which are the shards too. The workers of one job
share the threads; more workers than cores show what is sent, not how a real job scales.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.options import Options
from tests.bench.rows import Row, share

PART, KINDS, WORKERS = "reduction", ("fast", "fixed-order"), (1, 2, 4)
SETS = (
    "model.num_layers=6", "model.num_attention_heads=4", "model.sample_size=16",
    "model.clip_dim=256", "model.num_text_tokens=16",
    "train.global_batch_size=16", "train.micro_batch_size=2", "train.shards=8",
)
TINY = (*SETS, "model.num_layers=2", "model.num_attention_heads=1", "model.attention_head_dim=32")


def rows(options: Options) -> Iterator[Row]:
    """A step's seconds, fixed-order against fast, for each number of workers."""
    for workers in WORKERS[:2] if options.quick else WORKERS:
        with options.folder() as folder:
            took = _measure(folder, workers, options)
        name = f"a step with fixed-order, {workers} worker{'s' if workers > 1 else ''}"
        yield share(PART, name, "fast", took["fixed-order"], took["fast"])


def _measure(folder: Path, workers: int, options: Options) -> dict[str, list[float]]:
    threads = max(1, options.threads // workers)
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.getcwd()}
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(workers), "--log_dir",
              str(folder / "log")]
    command = [*(launch if workers > 1 else []), __file__, str(folder / "times.json"),
               str(options.rounds), str(int(options.quick))]
    ended = subprocess.run([sys.executable, *command], env=variables, capture_output=True)
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode(errors="replace")[-2000:])
    return json.loads((folder / "times.json").read_text())


def work(out: Path, rounds: int, quick: bool) -> None:
    """One worker: step times in turns; the first rounds warm up. The leader writes them."""
    from harness.base import paddle_env
    from harness.distributed import process_group

    paddle_env.require_paddle()
    from harness import configs
    from harness.training import train
    from harness.training.step import Trainer

    with process_group.joined() as world:
        made = [configs.load("small", (*(TINY if quick else SETS), f"train.reduction={kind}"))
                for kind in KINDS]
        trainers = [Trainer(config, 0, world) for config in made]
        parts = [[(shard, _batch(config, at)) for shard, at in train.shares(config, world)]
                 for config in made]
        took: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(rounds + 2):
            for kind, trainer, batches in zip(KINDS, trainers, parts, strict=True):
                world.meet()
                began = time.perf_counter()
                trainer.train(batches)
                world.meet()
                if number > 1:
                    took[kind].append(time.perf_counter() - began)
        if world.leads:
            out.write_text(json.dumps(took))


def _batch(config, positions: range):
    """Random samples, each by its position in the global batch."""
    import numpy as np

    from harness.data import Batch

    model = config.model
    drawn = [np.random.default_rng(position) for position in positions]
    latents = (model.in_channels, model.sample_size, model.sample_size)

    def normal(*shape: int) -> np.ndarray:
        return np.stack([draw.standard_normal(shape, np.float32) for draw in drawn])

    return Batch(
        step=0, latents=normal(*latents), noise=normal(*latents),
        timesteps=np.array([draw.integers(1, 1001) for draw in drawn]),
        context=normal(model.num_text_tokens, model.clip_dim),
    )


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")

"""Saving and loading a checkpoint of `small`: weights, EMA and moments, 715 MB.

Ours writes with SHA-256 and fsync and is renamed when complete; paddle.save does none of that.
The disk's rate is that of writing the same bytes into one file, and fsync. A process loads once:
each loading is measured in a new one, which has to get its memory from the system.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, faster
from tests.bench.worker import Worker

PART = "checkpoint"


def rows(options: Options) -> Iterator[Row]:
    """Save against paddle.save and the disk, load against paddle.load."""
    kinds = ("save", "save_paddle", "write", "load", "load_paddle")
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with options.folder() as folder, Worker(
        "tests.bench.bench_checkpoint:Checkpoints", threads=options.threads, folder=str(folder),
        sets=sides.settings(options, 1),
    ) as worker:
        for number in range(options.rounds + 1):
            for kind in kinds:
                if kind.startswith("load"):
                    with _loading(folder, options) as new:
                        seconds = getattr(new, kind)()
                else:
                    seconds = getattr(worker, kind)()
                if number:
                    took[kind].append(seconds)
    yield faster(PART, "save small", "paddle.save", took["save"], took["save_paddle"])
    yield faster(PART, "save small", "disk: write and fsync", took["save"], took["write"],
                 target=0.9)
    yield faster(PART, "load small, in a new process", "paddle.load", took["load"],
                 took["load_paddle"])


def _loading(folder: Path, options: Options) -> Worker:
    return Worker("tests.bench.bench_checkpoint:Loading", threads=options.threads,
                  folder=str(folder))


class Checkpoints:
    """A trainer of `small` and a folder to save it in."""

    def __init__(self, folder: str, sets: list[str]):
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from harness import configs
        from harness.training.step import Trainer

        self.folder = Path(folder)
        self.trainer = Trainer(configs.load("small", sets), seed=1)

    def save(self) -> float:
        """Seconds from the trainer's state to a checkpoint on disk."""
        from harness.runs import checkpoints

        directory = self.folder / "checkpoints" / "00000001"
        shutil.rmtree(directory, ignore_errors=True)

        def work() -> None:
            parts, state = self.trainer.state()
            made = checkpoints.Checkpoint(1, parts, state)
            checkpoints.save(directory, made, config_digest="0" * 64, seed=1)

        return _timed(work)

    def save_paddle(self) -> float:
        """Seconds of paddle.save of the same tensors."""
        import paddle

        parts, _ = self.trainer.state()
        tensors = {
            name: {n: paddle.to_tensor(a) for n, a in part.items()} for name, part in parts.items()
        }
        return _timed(lambda: paddle.save(tensors, str(self.folder / "all.pdparams")))

    def write(self) -> float:
        """Seconds to write the same bytes into a file, and fsync."""
        parts, _ = self.trainer.state()
        path = self.folder / "raw"
        path.unlink(missing_ok=True)

        def work() -> None:
            with open(path, "wb", buffering=0) as file:
                for part in parts.values():
                    for array in part.values():
                        file.write(array.reshape(-1).view("u1").data)
                os.fsync(file.fileno())

        return _timed(work)


class Loading:
    """A process that reads what was saved, once."""

    def __init__(self, folder: str):
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from harness.runs import checkpoints  # noqa: F401 - imported before the clock runs

        self.folder = Path(folder)

    def load(self) -> float:
        """Seconds to check and read what `save` wrote."""
        from harness.runs import checkpoints

        return _timed(lambda: checkpoints.load(self.folder / "checkpoints" / "00000001"))

    def load_paddle(self) -> float:
        """Seconds of paddle.load of what `save_paddle` wrote."""
        import paddle

        return _timed(lambda: paddle.load(str(self.folder / "all.pdparams")))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

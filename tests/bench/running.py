"""A worker that trains as `harness train` does, and as the bare loop would."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from harness.base import paddle_env

paddle_env.require_paddle()

from harness import configs, data  # noqa: E402
from harness.configs import Config  # noqa: E402
from harness.data import Batch  # noqa: E402
from harness.training import train  # noqa: E402
from harness.training.learning_rate import learning_rate  # noqa: E402
from harness.training.step import Trainer  # noqa: E402
from tests import fixtures  # noqa: E402
from tests.bench.uvit_ours import finish  # noqa: E402

WARM = 2  # first steps of a process, not counted


class Running:
    """Runs of `config`, changed by `sets`, on random features made in `folder`."""

    def __init__(self, folder: str, config: str, sets: list[str]):
        self.folder, self.name, self.sets = Path(folder), config, sets
        loaded = configs.load(config, sets)
        section = loaded.model
        fixtures.write_features(
            self.folder / "data", images=max(8, loaded.train.global_batch_size),
            channels=section.in_channels, size=section.sample_size,
            tokens=section.num_text_tokens, width=section.clip_dim,
        )
        self.trainer = Trainer(loaded, seed=1)
        self.config = loaded

    def harness(
        self, steps: int, save_steps: int, report_to: tuple[str, ...] = ()
    ) -> list[float]:
        """Train `WARM` and `steps` steps, evaluation off: when each step ended, and when all did.

        The last checkpoint is written at the end in any case.
        """
        more = [f"train.max_steps={WARM + steps}", f"train.save_steps={save_steps}"]
        config = configs.load(self.name, [*self.sets, *more])
        directory = self.folder / "run"
        ends: list[float] = []
        step = Trainer.train

        def stamped(trainer: Trainer, *arguments: object, **named: object) -> object:
            told = step(trainer, *arguments, **named)
            ends.append(time.perf_counter())
            return told

        workers = config.data.num_workers
        with mock.patch.object(Trainer, "train", stamped):
            train.train(train.Plan(config, 1, directory, self.folder / "data", workers,
                                   report_to=tuple(report_to)))
        ends.append(time.perf_counter())
        shutil.rmtree(directory)
        return ends

    def bare(self, steps: int) -> float:
        """Seconds of `steps` steps of the same model and optimizer on the same batches, alone."""
        batches = self._batches(WARM + steps)
        for number, batch in enumerate(batches):
            if number == WARM:
                began = time.perf_counter()
            self._bare_step(batch, number + 1)
        return time.perf_counter() - began

    def more(self, pairs: int) -> float:
        """Seconds that a step of the trainer (EMA included) takes more than a bare one.

        The median of `pairs`, each on one batch, either step first in turn.
        """
        batch = next(self._batches(1))
        found = []
        for number in range(pairs):
            sides = [self._whole_step, self._bare_step]
            took = {side: _timed(side, batch) for side in sides[:: 1 if number % 2 else -1]}
            found.append(took[self._whole_step] - took[self._bare_step])
        return statistics.median(found)

    def _batches(self, steps: int) -> Iterator[Batch]:
        config = self._with_steps(steps)
        source = data.open_source(config, 1, self.folder / "data")
        return data.prefetch(source, train.micro_batches(config, 0), config.data.num_workers)

    def _with_steps(self, steps: int) -> Config:
        return configs.load(self.name, [*self.sets, f"train.max_steps={steps}"])

    def _whole_step(self, batch: Batch) -> None:
        shard = train.shares(self.config, self.trainer.world)[0][0]
        self.trainer.train([(shard, batch)])
        finish()

    def _bare_step(self, batch: Batch, step: int = 1) -> None:
        trainer, optim = self.trainer, self.config.optim
        loss = trainer.schedule.loss(
            trainer.model, batch.latents, batch.noise, batch.timesteps, batch.context
        )
        loss.backward()
        gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
        lr = learning_rate(optim, step, self.config.train.max_steps)
        trainer.optimizer.apply(gradients, step=step, lr=lr)
        for parameter in trainer.model.parameters():
            parameter.clear_gradient(False)
        float(loss)
        finish()


def _timed(step: Callable[[Batch], None], batch: Batch) -> float:
    began = time.perf_counter()
    step(batch)
    return time.perf_counter() - began

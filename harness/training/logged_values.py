"""The log of a run: metrics.jsonl, which must repeat, and timing.jsonl, which cannot."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from harness import runs
from harness.base.progress import say
from harness.base.wording import counted
from harness.configs import schema
from harness.distributed.process_group import World
from harness.training import machine_conditions, measure
from harness.training.learning_rate import learning_rate


def is_logged(settings: schema.Train, step: int) -> bool:
    """Whether metrics.jsonl has a line of `step`: 1, every `log_steps`, and the last."""
    return step in (1, settings.max_steps) or (
        0 < step < settings.max_steps and step % settings.log_steps == 0)


def logged_steps(settings: schema.Train, through: int, *, after: int = 0) -> Iterable[int]:
    """The steps that are logged after `after` and up to `through`, ascending.

    One by one: a log that somebody else wrote may end at any step.
    """
    every, last = settings.log_steps, settings.max_steps
    multiples = range(max(after, 0) // every * every + every, min(through, last) + 1, every)
    alone = sorted(step for step in {1, last} if after < step <= through and step % every)
    return heapq.merge(alone, multiples)


class RunLog:
    """Writes metrics.jsonl and timing.jsonl at step 1, every log_steps and the last step.

    All processes of a job take part, for their figures; the first one writes.
    """

    def __init__(self, run: runs.Run, world: World, *, keep_through: int):
        self._config, self._world = run.config, world
        self.chrono = measure.Chrono(self._config.train.global_batch_size, lambda: world.waited)
        self._metrics: runs.Lines | None = None
        self._timing: runs.Lines | None = None
        if world.leads:
            self._open(run, keep_through)
        self._watch = machine_conditions.Watch(machine_conditions.here(), self.chrono.paused)
        self.shown: dict[str, str] = {}  # the speed, as PaddlePaddle's robots look for it in a log

    def _open(self, run: runs.Run, keep_through: int) -> None:
        self._metrics = runs.Lines(run.metrics_file, keep_through=keep_through)
        self._timing = runs.Lines(run.timing_file, keep_through=keep_through)
        expected = logged_steps(self._config.train, keep_through, after=run.first_step)
        if missing := [s for s in expected if s not in self._metrics.steps]:
            say(f"warning: {run.metrics_file} lacks {counted(len(missing), 'line')}, the first "
                f"that of step {missing[0]}")

    def step(self, step: int, loss: float) -> None:
        train = self._config.train
        if not is_logged(train, step):
            return
        timing = measure.of_job(measure.snapshot(self.chrono), self._world)
        if speed := timing["images_per_second"]:
            self.shown = {"ips": f"{speed:.2f} images/s"}
        timing |= machine_conditions.of_job(self._watch.lap(), self._world)
        if self._metrics is None or self._timing is None:
            return
        lr = learning_rate(self._config.optim, step, train.max_steps)
        self._metrics.append({"step": step, "loss": loss, "loss_hex": loss.hex(), "lr": lr})
        self._timing.append({"step": step, **timing})

    def sync(self) -> None:
        for lines in filter(None, (self._metrics, self._timing)):
            lines.sync()

    def close(self) -> None:
        self._watch.close()
        for lines in filter(None, (self._metrics, self._timing)):
            lines.close()

"""A run's checkpoints, written beside training from a copy of its state."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from harness import runs
from harness.base.errors import HarnessError
from harness.base.progress import say
from harness.runs import checkpoints
from harness.training.step import NonFiniteLoss, Trainer

NICE = 10  # a tenth of what a step's thread gets, where both want the same core


class Saver:
    """Writes checkpoints of `trainer`, one at a time, in a thread while steps go on.

    The thread works on a copy, and writes as `checkpoints.save` does: whole or not at all. What
    goes wrong in it is raised by the next call of `check`, `save`, `wait` or `settle`.
    `before()` is called before each: what has to be on disk first.
    """

    def __init__(self, run: runs.Run, trainer: Trainer, *, before: Callable[[], None]):
        self._run, self._trainer, self._before = run, trainer, before
        self._step = trainer.step  # of the last checkpoint, on disk or on its way there
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint", initializer=_give_way
        )
        self._writing: Future[None] | None = None

    def save(self) -> None:
        """Begin to write the trainer's step, unless it was; every process of a job must call."""
        trainer = self._trainer
        if trainer.step == self._step:
            return
        self.wait()  # so that there is one copy at a time
        self._before()
        parts, state = trainer.state()
        self._step = trainer.step
        if trainer.world.leads:
            made = checkpoints.Checkpoint(trainer.step, parts, state)
            self._writing = self._thread.submit(_write, self._run, made)

    def check(self) -> None:
        """Raise what went wrong, if the thread has ended."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when what `save` began is on disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def settle(self) -> None:
        """`wait`, and so for every process of a job: nobody goes on, or away, before."""
        self.wait()
        self._trainer.world.meet()

    def close(self) -> None:
        """Let the thread end; an error in it is only told, for another is on its way."""
        try:
            self.wait()
        except HarnessError as error:
            say(f"warning: {error}")
        finally:
            self._thread.shutdown()


def _give_way() -> None:
    """Let steps go first: their threads wait for one another, so that each waits for any delay.

    On Linux a thread has a priority of its own, and those that it starts to hash have it too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _write(run: runs.Run, made: checkpoints.Checkpoint) -> None:
    # A step whose gradients overflow has a loss yet: the next would find out, from this checkpoint.
    if not all(np.isfinite(array).all() for array in made.parts["model"].values()):
        raise NonFiniteLoss(
            f"the weights of step {made.step} are not finite, and were not saved",
            remedy="lower optim.lr, or check the data; the last checkpoint is untouched",
        )
    checkpoints.save(
        run.checkpoint(made.step), made,
        config_digest=run.info["digest"], seed=run.seed, config=run.info["config"],
    )
    settings = run.config.train
    # Later ones are broken (or foreign): they were passed over, and are written again.
    steps = [step for step in run.checkpoint_steps() if step <= made.step]
    checkpoints.prune(
        run.checkpoints, steps, keep=settings.keep_checkpoints, every=settings.save_steps,
        last=settings.max_steps,
        # What imported weights began with is nowhere else: `verify` starts from it.
        first=run.first_step if run.info.get("imported") else None,
    )

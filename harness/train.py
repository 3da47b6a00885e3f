"""A training run, top to bottom: open or continue, loop, log, save, sample, evaluate."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from harness import checkpoints, data, fingerprint, measure, runs
from harness.configs import Config, schema
from harness.errors import EnvironmentFault, HarnessError, Interrupted
from harness.optim import learning_rate
from harness.progress import Progress, say
from harness.step import Trainer

Hook = Callable[[runs.Run, Trainer], None]


@dataclass(frozen=True)
class Hooks:
    """What happens beside training; given by the command, so that this module needs no eval."""

    image: Hook | None = None
    evaluate: Hook | None = None


@dataclass(frozen=True)
class Plan:
    """What `harness train` was asked for."""

    config: Config
    seed: int
    directory: Path
    data: Path
    workers: int
    hooks: Hooks = field(default_factory=Hooks)
    until: int | None = None  # stop after this step; the run can be gone on with


def train(plan: Plan) -> runs.Run:
    """Train to `max_steps`, continuing from the newest valid checkpoint.

    Errors: UsageError (another config's directory), DataError (data, checkpoints),
    EnvironmentFault (disk, memory, a run in use), Interrupted after SIGTERM or
    Ctrl-C, with a checkpoint of the last finished step.
    """
    config = plan.config
    with _Stop() as stop, contextlib.ExitStack() as stack, _out_of_memory(config):
        try:
            with stop.at_once():  # nothing is at stake yet
                source = data.open_source(config, plan.seed, plan.data)
                stack.enter_context(runs.locked(plan.directory))
                run, trainer = _open(plan, source)
        except StopNow:
            raise Interrupted(
                "stopped before the first step", remedy="run the same command again to continue"
            ) from None
        _loop(run, trainer, source, plan, stop)
    return run


def _open(plan: Plan, source: data.Source) -> tuple[runs.Run, Trainer]:
    """Begin the run, or continue it from its newest valid checkpoint."""
    stack = stack_with(source)
    run = runs.create(
        plan.directory, plan.config, plan.seed, fingerprint=stack,
        data=data.describe(plan.data, source),
        commit=fingerprint.git_commit(),
    )
    trainer = Trainer(plan.config, plan.seed)
    found = checkpoints.newest_valid(
        run.checkpoints, run.checkpoint_steps(), config_digest=run.info["digest"], seed=run.seed,
        warn=say,
    )
    if found is not None:
        trainer.load(found.step, found.parts, found.state)
        say(f"continuing {run.directory} from step {found.step}")
    differs = runs.note_stack(run, trainer.step, stack)
    if differs and run.info["deterministic"]:
        named = "; ".join(f"{k} was {a!r}, is {b!r}" for k, (a, b) in differs.items())
        say(f"warning: from step {trainer.step} on the bits are not those of one stack: {named}")
    return run, trainer


def stack_with(source: data.Source) -> dict[str, Any]:
    """The fingerprint of this process, and of the form that it reads the data in."""
    return {**fingerprint.collect(), "data.context_dtype": source.split.context_dtype}


def micro_batches(config: Config, start: int) -> Iterator[tuple[int, range]]:
    """(0-based step, global sample numbers) of every micro-batch from step `start` on."""
    size = config.train.global_batch_size
    micro = min(config.train.micro_batch_size, size)
    for step in range(start, config.train.max_steps):
        for first in range(step * size, (step + 1) * size, micro):
            yield step, range(first, first + micro)


def _loop(
    run: runs.Run, trainer: Trainer, source: data.Source, plan: Plan, stop: _Stop
) -> None:
    settings = run.config.train
    end = min(settings.max_steps, plan.until or settings.max_steps)
    per_step = settings.global_batch_size // min(
        settings.micro_batch_size, settings.global_batch_size
    )
    parts = micro_batches(run.config, trainer.step)
    batches = data.prefetch(source, parts, plan.workers)
    chrono = measure.Chrono(settings.global_batch_size)
    metrics = runs.Lines(run.metrics_file, keep_through=trainer.step)
    timing = runs.Lines(run.timing_file, keep_through=trainer.step)
    log = _Log(run.config, metrics, timing, chrono)
    expected = [s for s in logged_steps(settings, trainer.step) if s > run.first_step]
    if missing := [s for s in expected if s not in metrics.steps]:
        say(f"warning: {run.metrics_file} lacks {len(missing)} lines, first that of {missing[0]}")

    def taken() -> Iterator[data.Batch]:
        for _ in range(per_step):
            stop.check()
            with chrono.waiting():
                batch = next(batches)
            yield batch

    label = f"train {run.name}"
    try:
        with Progress(end, label, start=trainer.step, unit="step") as progress:
            # What a kill cut off beside this step is made up for; what is there stays.
            with progress.pause():
                _beside(run, trainer, plan.hooks, stop, log)
            while trainer.step < end:
                loss = trainer.train(taken())
                chrono.step_done()
                log.step(trainer.step, loss)
                progress.advance(loss=f"{loss:.4f}")
                with chrono.pause(), progress.pause():
                    _save_if_due(run, trainer, stop, log, end)
                    _beside(run, trainer, plan.hooks, stop, log)
    except StopNow:
        # Weights, log and step are those of the last finished step wherever this comes from.
        if trainer.step and trainer.step not in run.checkpoint_steps():
            log.sync()
            save(run, trainer)
        raise _interrupted(trainer.step) from None
    finally:
        batches.close()
        metrics.close()
        timing.close()


def _save_if_due(
    run: runs.Run, trainer: Trainer, stop: _Stop, log: _Log, end: int
) -> None:
    step = trainer.step
    last = step == end
    if step % run.config.train.save_steps == 0 or last or stop.asked:
        log.sync()
        save(run, trainer)
    if stop.asked and not last:
        raise _interrupted(step)


def _beside(
    run: runs.Run, trainer: Trainer, hooks: Hooks, stop: _Stop, log: _Log
) -> None:
    """Sample grids and evaluations due at the trainer's step; a signal cuts them short.

    Hooks do nothing where their output exists, and go on where a kill cut them off.
    """
    settings, step = run.config.train, trainer.step

    def due(every: int) -> bool:
        return bool(every and step) and step % every == 0

    image = hooks.image if due(settings.image_steps) else None
    at_start = settings.eval_at_start and step == 0
    evaluate = hooks.evaluate if at_start or due(settings.eval_steps) else None
    if not (image or evaluate):
        return
    # Saved first: a signal may then drop everything here, wherever it strikes.
    if step and step not in run.checkpoint_steps():
        log.sync()
        save(run, trainer)
    with stop.at_once():
        for hook in filter(None, (image, evaluate)):
            hook(run, trainer)


def _interrupted(step: int) -> Interrupted:
    saved = "after saving" if step else "with nothing to save"
    return Interrupted(
        f"stopped at step {step} {saved}", remedy="run the same command again to continue"
    )


def save(run: runs.Run, trainer: Trainer) -> None:
    """Write the checkpoint of the trainer's step, then drop the oldest ones."""
    parts, state = trainer.state()
    checkpoints.save(
        run.checkpoint(trainer.step),
        checkpoints.Checkpoint(trainer.step, parts, state),
        config_digest=run.info["digest"],
        seed=run.seed,
        config=run.info["config"],
    )
    settings = run.config.train
    # Later ones are broken (or foreign): they were passed over, and are written again.
    steps = [step for step in run.checkpoint_steps() if step <= trainer.step]
    checkpoints.prune(
        run.checkpoints, steps, keep=settings.keep_checkpoints, every=settings.save_steps,
        last=settings.max_steps,
    )


def logged_steps(settings: schema.Train, through: int) -> list[int]:
    """The steps of metrics.jsonl up to `through`: 1, every `log_steps`, and the last; ascending."""
    steps = {1, *range(settings.log_steps, through + 1, settings.log_steps), settings.max_steps}
    return sorted(step for step in steps if step <= through)


class _Log:
    """Writes metrics.jsonl and timing.jsonl at step 1, every log_steps and the last step."""

    def __init__(
        self, config: Config, metrics: runs.Lines, timing: runs.Lines, chrono: measure.Chrono
    ):
        self._config, self._metrics, self._timing = config, metrics, timing
        self._chrono = chrono

    def step(self, step: int, loss: float) -> None:
        train = self._config.train
        if step != 1 and step % train.log_steps and step != train.max_steps:
            return
        lr = learning_rate(self._config.optim, step, train.max_steps)
        self._metrics.append({"step": step, "loss": loss, "loss_hex": loss.hex(), "lr": lr})
        self._timing.append({"step": step, **measure.snapshot(self._chrono)})

    def sync(self) -> None:
        self._metrics.sync()
        self._timing.sync()


class StopNow(BaseException):
    """A signal came while nothing was at stake; not an Exception, so that nothing swallows it."""


class _Stop:
    """Turns the first SIGTERM or Ctrl-C into a flag; a second one kills at once."""

    GRACE = 10.0  # seconds that a step may take to end after the signal

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._at_once = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises `StopNow` where it meets the program."""
        self._at_once = True
        try:
            if self.asked:
                raise StopNow
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """Raise `StopNow` if a signal came so long ago that the step is not worth finishing."""
        if self.asked and time.monotonic() - self._since > self.GRACE:
            raise StopNow

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked, self._since = True, time.monotonic()
        signal.signal(number, self._former[number])
        if self._at_once:
            self._at_once = False
            raise StopNow
        say(f"{signal.Signals(number).name}: finishing this step, then saving")


class _out_of_memory:
    """Says in one line what to lower when memory runs out."""

    def __init__(self, config: Config):
        self._micro = config.train.micro_batch_size

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if error is None or isinstance(error, HarnessError):
            return
        text = str(error).lower()
        if isinstance(error, MemoryError) or "resourceexhausted" in text or "out of memory" in text:
            raise EnvironmentFault(
                f"out of memory with train.micro_batch_size {self._micro}",
                remedy="lower train.micro_batch_size, or set train.recompute=true",
            ) from error



"""A training run, top to bottom: open or continue, loop, log, save, sample, evaluate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import configs, data, runs
from harness.base import fingerprint
from harness.base.errors import EnvironmentFault, HarnessError, Interrupted
from harness.base.progress import Progress, say
from harness.configs import Config
from harness.distributed import process_group
from harness.distributed.process_group import World
from harness.distributed.turns import Turns
from harness.runs import checkpoints
from harness.training import announcement
from harness.training.background_saving import Saver
from harness.training.curves.beside import reporting
from harness.training.logged_values import RunLog
from harness.training.step import Trainer
from harness.training.stop_on_signal import Stop, StopNow

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
    hooks: Callable[[], Hooks] = Hooks  # asked for when the data was found to be sound
    until: int | None = None  # stop after this step; the run can be gone on with
    report_to: tuple[str, ...] = ()  # of harness.training.curves.writers
    world: World = field(default_factory=World.alone)


def train(plan: Plan) -> runs.Run:
    """Train to `max_steps`, continuing from the newest valid checkpoint.

    Errors: UsageError (another config's directory), DataError (data, checkpoints),
    EnvironmentFault (disk, memory, a run in use), Interrupted after SIGTERM or
    Ctrl-C, with a checkpoint of the last finished step.
    """
    config = plan.config
    with Stop() as stop, contextlib.ExitStack() as stack, _out_of_memory(config):
        try:
            with stop.at_once():  # nothing is at stake yet
                source = data.open_source(config, plan.seed, plan.data)
                hooks = plan.hooks()
                if plan.world.leads:
                    stack.enter_context(runs.locked(plan.directory))
                run, trainer = _open(plan, source)
        except StopNow:
            raise Interrupted(
                "stopped before the first step", remedy="run the same command again to continue"
            ) from None
        if plan.world.leads:
            stack.enter_context(reporting(run, plan.report_to))
        _loop(run, trainer, source, plan, hooks, stop)
    return run


def _open(plan: Plan, source: data.Source) -> tuple[runs.Run, Trainer]:
    """Begin the run, or continue it from its newest valid checkpoint."""
    world = plan.world
    stack = stack_with(source, plan.config, world)
    trainer = Trainer(plan.config, plan.seed, world)
    if not world.leads:
        return _follow(plan, trainer)
    run = runs.create(
        plan.directory, plan.config, plan.seed, fingerprint=stack,
        data=data.describe(plan.data, source),
        commit=fingerprint.git_commit(),
    )
    found = checkpoints.newest_valid(
        run.checkpoints, run.checkpoint_steps(), config_digest=run.info["digest"], seed=run.seed,
        warn=say,
    )
    world.lead(float(found.step if found else 0))
    if found is not None:
        trainer.load(found.step, found.parts, found.state)
        say(f"continuing {run.directory} from step {found.step}")
    differs = runs.note_stack(run, trainer.step, stack)
    if differs and run.info["deterministic"]:
        named = "; ".join(f"{k} was {a!r}, is {b!r}" for k, (a, b) in differs.items())
        say(f"warning: from step {trainer.step} on the bits are not those of one stack: {named}")
    return run, trainer


def stack_with(
    source: data.Source, config: Config, world: World | None = None
) -> dict[str, Any]:
    """The fingerprint of this process, and of the form that it reads the data in.

    Where shards are added in a fixed order, the number of processes changes no bit,
    and is left out.
    """
    size = world.size if world and config.train.reduction == "fast" else 1
    stack = fingerprint.collect(world_size=size)
    return {**stack, "data.context_dtype": source.split.context_dtype}


def _follow(plan: Plan, trainer: Trainer) -> tuple[runs.Run, Trainer]:
    """What `_open` does, on the processes that do not write."""
    digest = configs.digest(plan.config)
    info = {"config": configs.resolved(plan.config), "digest": digest, "seed": plan.seed}
    run = runs.Run(plan.directory, info)
    step = int(plan.world.lead(0.0))
    if step:
        found = checkpoints.load(run.checkpoint(step), config_digest=digest, seed=plan.seed)
        trainer.load(found.step, found.parts, found.state)
    return run, trainer


def shares(config: Config, world: World) -> list[tuple[int, range]]:
    """(shard, positions in the global batch) of the micro-batches that a process takes."""
    train = config.train
    return list(process_group.micro_batches(
        global_batch_size=train.global_batch_size, micro_batch_size=train.micro_batch_size,
        shards=train.shards if train.reduction == "fixed-order" else None, world=world,
    ))


def micro_batches(
    config: Config, start: int, world: World | None = None
) -> Iterator[tuple[int, range]]:
    """(0-based step, global sample numbers) of a process's micro-batches from step `start` on."""
    size = config.train.global_batch_size
    parts = shares(config, world or World.alone())
    for step in range(start, config.train.max_steps):
        for _, part in parts:
            yield step, range(step * size + part.start, step * size + part.stop)


def _loop(
    run: runs.Run, trainer: Trainer, source: data.Source, plan: Plan, hooks: Hooks, stop: Stop
) -> None:
    settings, world = run.config.train, plan.world
    end = min(settings.max_steps, plan.until or settings.max_steps)
    parts = shares(run.config, world)
    batches = data.prefetch(
        source, micro_batches(run.config, trainer.step, world), plan.workers
    )
    log = RunLog(run, world, keep_through=trainer.step)
    saver = Saver(run, trainer, before=log.sync)
    turns = Turns()

    def taken() -> Iterator[tuple[int, data.Batch]]:
        for shard, _ in parts:
            if world.size == 1:  # several processes leave a step together, or not at all
                stop.check()
            with log.chrono.waiting():
                batch = next(batches)
            yield shard, batch

    label = f"train {run.name}"
    if world.leads:
        say(f"{label}: " + announcement.of_training(
            run.config, start=trainer.step, end=end, images=hooks.image is not None,
            steps_per_epoch=source.sampling.steps_per_epoch,
            evaluations=hooks.evaluate is not None,
        ))
    try:
        with Progress(
            end, label, start=trainer.step, unit="step", silent=not world.leads
        ) as progress:
            # What a kill cut off beside this step is made up for; what is there stays.
            with progress.pause():
                _beside(run, trainer, hooks, stop, saver)
            with log.chrono.pause():
                turns.begin()
            while trainer.step < end:
                loss, stopping = trainer.train(taken(), stop=stop.asked)
                stop.asked = stop.asked or stopping
                log.chrono.step_done()
                log.step(trainer.step, loss)
                progress.advance(shown={"loss": f"{loss:.4f}", **log.shown})
                with log.chrono.pause(), progress.pause():
                    # Several processes leave a step together: one that heard of a signal after
                    # they agreed tells the others in the next.
                    leaving = stop.asked if world.size == 1 else stopping
                    _save_if_due(run, trainer, leaving, saver, end)
                    _beside(run, trainer, hooks, stop, saver)
                    turns.pass_on()
    except StopNow:
        # Weights, log and step are those of the last finished step wherever this comes from.
        saver.save()
        saver.wait()
        raise _interrupted(trainer.step) from None
    finally:
        turns.close()
        batches.close()
        saver.close()
        log.close()


def _save_if_due(
    run: runs.Run, trainer: Trainer, leaving: bool, saver: Saver, end: int
) -> None:
    step = trainer.step
    last = step == end
    saver.check()
    if step % run.config.train.save_steps == 0 or last or leaving:
        saver.save()
    if last or leaving:
        saver.settle()
    if leaving and not last:
        raise _interrupted(step)


def _beside(
    run: runs.Run, trainer: Trainer, hooks: Hooks, stop: Stop, saver: Saver
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
    saver.save()
    saver.settle()
    with stop.at_once():
        for hook in filter(None, (image, evaluate)):
            hook(run, trainer)


def _interrupted(step: int) -> Interrupted:
    saved = "after saving" if step else "with nothing to save"
    return Interrupted(
        f"stopped at step {step} {saved}", remedy="run the same command again to continue"
    )


@contextlib.contextmanager
def _out_of_memory(config: Config) -> Iterator[None]:
    """Says in one line what to lower when memory runs out."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or "resourceexhausted" in text or "out of memory" in text:
            raise EnvironmentFault(
                f"out of memory with train.micro_batch_size {config.train.micro_batch_size}",
                remedy="lower train.micro_batch_size, or set train.recompute=true",
            ) from error
        raise

"""Evaluations of the EMA weights while a run trains."""

from __future__ import annotations

from pathlib import Path

from eval import protocols
from eval.evaluation import evaluate, evaluation_task
from eval.features.digits import DigitsFeatures
from eval.metrics import feature_statistics, reference_statistics
from harness import runs
from harness.configs import Config
from harness.runs import checkpoints
from harness.training.step import Trainer


def require(config: Config, directory: Path) -> None:
    """DataError or EnvironmentFault now if an evaluation would lack something or not fit."""
    protocol = protocols.get(config.eval.train_protocol)
    task = evaluation_task.Task(config, protocol, directory, directory, 0)
    captions = evaluation_task.open_captions(task)
    captions.contexts(0, 1)
    reference = reference_statistics.find(directory)
    if protocol.features == "inception":
        from eval.features import inception, inception_weights

        inception_weights.find_weights()
        size = inception.SIZE
    else:
        size = DigitsFeatures.load(directory).size
    feature_statistics.load(reference, size=size)


def evaluate_now(run: runs.Run, trainer: Trainer, directory: Path) -> None:
    """Evaluate the EMA weights as they are; a finished or begun evaluation is gone on with.

    Every process of a job makes its share of the samples.
    """
    world = trainer.world
    protocol = protocols.get(run.config.eval.train_protocol)
    task = evaluation_task.Task(
        run.config, protocol, directory, run.evaluation(trainer.step, protocol.name),
        trainer.step, world=world,
    )
    average = trainer.average()
    with trainer.averaged() as averaged:
        exact = str(averaged.dtype).endswith("float32")
        evaluate.evaluate(
            task, average, checkpoints.tensors_digest(average), model=averaged if exact else None
        )
    world.meet()

"""What a run has before it, in one line, before the first step is made."""

from __future__ import annotations

from harness.base.wording import counted
from harness.configs import Config


def of_training(
    config: Config, *, start: int, end: int, steps_per_epoch: int, images: bool, evaluations: bool
) -> str:
    """The steps after `start` up to `end`, and the grids and evaluations due on the way.

    `images`, `evaluations`: whether these are made at all (`--no-eval`).
    """
    train = config.train
    left = end - start
    grids = end // train.image_steps - start // train.image_steps if train.image_steps else 0
    measured = end // train.eval_steps - start // train.eval_steps if train.eval_steps else 0
    measured += train.eval_at_start and start == 0
    return (
        f"ahead: {counted(left, 'step')} of {counted(train.global_batch_size, 'image')} "
        f"({left / steps_per_epoch:,.3g} epochs), "
        f"{counted(measured if evaluations else 0, 'evaluation')}, "
        f"{counted(grids if images else 0, 'sample grid')}"
    )

"""The learning rate by step: warm-up, then constant, linear or cosine."""

from __future__ import annotations

import math

from harness.configs.schema import Optim


def learning_rate(optim: Optim, step: int, max_steps: int) -> float:
    """Learning rate of 1-based `step`: linear warm-up, then constant, linear or cosine to 0.

    Official U-ViT: lr * min(step / warmup_steps, 1), constant afterwards. Its scheduler counts
    from 0, so that its first update has rate 0; here the first has lr / warmup_steps.
    """
    if step <= optim.warmup_steps:
        return optim.lr * step / optim.warmup_steps
    if optim.schedule == "constant":
        return optim.lr
    progress = min(1.0, (step - optim.warmup_steps) / max(1, max_steps - optim.warmup_steps))
    if optim.schedule == "linear":
        return optim.lr * (1.0 - progress)
    return optim.lr * 0.5 * (1.0 + math.cos(math.pi * progress))

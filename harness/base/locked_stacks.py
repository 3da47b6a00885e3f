"""The named, locked sets of versions (locks/), and which GPUs each set's Paddle runs on.

A stack's name is a function of what a run's fingerprint records, so that runs of before there
were stacks have one too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stack:
    """A stack's name and the versions that its lock holds (tests/test_locks.py compares)."""

    name: str
    series: str  # what the versions of its Paddle begin with
    paddle: str
    ppdiffusers: str
    paddlenlp: str


STACKS = (
    Stack("paddle2.6", "2.6.", "2.6.2", "0.24.1", "2.7.2"),
    Stack("paddle3", "3.", "3.3.1", "0.29.0", "3.0.0b4"),
)


# Lowest and highest major version of compute capability -> the folders of Paddle's index whose
# 3.x wheels have code for it, by what is published about them: no row was tried
# on a GPU (docs/stacks.md).
_WHEELS = (((6, 8), "cu118 or cu126"), ((9, 9), "cu126"), ((10, 12), "cu129 or cu130"))


def gpu_wheel(capability: tuple[int, int]) -> str | None:
    """The CUDA builds of Paddle 3.x for a GPU of this compute capability, or None."""
    return next((w for (low, high), w in _WHEELS if low <= capability[0] <= high), None)


def of(paddle: str) -> Stack | None:
    """The stack that this version of Paddle belongs to, or None."""
    return next((stack for stack in STACKS if paddle.startswith(stack.series)), None)


def label(fingerprint: Mapping[str, Any]) -> str:
    """`paddle3`; `paddle3 (paddle 3.2.0)` where Paddle alone was swapped; `paddle 4.0` of none."""
    paddle = fingerprint.get("package.paddlepaddle") or fingerprint.get("package.paddlepaddle-gpu")
    if not paddle:
        return "unknown stack"
    stack = of(paddle)
    if stack is None:
        return f"paddle {paddle}"
    # A wheel of Paddle's own index may say its CUDA: 3.3.1+cu126.
    locked = paddle.partition("+")[0] == stack.paddle
    return stack.name if locked else f"{stack.name} (paddle {paddle})"

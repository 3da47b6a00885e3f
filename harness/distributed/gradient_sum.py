"""From micro-batches to one gradient: `fast`, or in a fixed order whoever computes.

fast: gradients of a process's micro-batches accumulate, and the engine's
all-reduce (bucketed, overlapped with the backward pass) joins the processes.
The bits depend on the number of processes.

fixed-order: the global batch is cut in `train.shards` pieces, each piece's
gradient is computed by itself, and the pieces are added as one binary tree. A
process adds its own aligned subtree, the processes' sums are gathered and added
in order: the same bits for 1, 2, 4 and 8 processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from harness.configs import Config
from harness.distributed.process_group import World, local_share
from models.uvit import UViTOutput

Result = tuple[dict[str, paddle.Tensor], float, bool]


class Fold:
    """Adds 2^k things as a fixed binary tree, one after the other, keeping at most k partial sums.

    ((0+1)+(2+3))+((4+5)+(6+7)), whoever adds which aligned part of it: floating-point
    addition is not associative, so the tree decides the bits, and it is always the same.
    """

    def __init__(self) -> None:
        self._partial: list[tuple[int, Any]] = []

    def add(self, value: Any) -> None:
        height = 0
        while self._partial and self._partial[-1][0] == height:
            _, left = self._partial.pop()
            value, height = left + value, height + 1
        self._partial.append((height, value))

    def total(self) -> Any:
        """The sum, once 2^k things were added."""
        ((_, value),) = self._partial
        return value


def fold(values: Sequence[Any]) -> Any:
    """Sum of 2^k values as `Fold` does it."""
    tree = Fold()
    for value in values:
        tree.add(value)
    return tree.total()


def make(model: nn.Layer, config: Config, world: World) -> Fast | FixedOrder:
    """The reduction that `config.train.reduction` names."""
    if config.train.reduction == "fixed-order":
        return FixedOrder(model, world)
    local = local_share(config.train.global_batch_size, config.train.micro_batch_size, world)
    micro = min(config.train.micro_batch_size, local)
    return Fast(model, world, parts=local // micro, recompute=config.train.recompute)


class Fast:
    """Accumulate in each process, all-reduce among them."""

    def __init__(self, model: nn.Layer, world: World, *, parts: int, recompute: bool):
        self._layers, self._world, self._parts = model, world, parts
        # Recompute's backward runs blocks again, which the overlapping hooks do not expect.
        self._overlaps = world.size > 1 and not recompute
        self._engine: Any = paddle.DataParallel(model) if self._overlaps else None
        self.model = self._through_engine if self._overlaps else model
        self._done = 0
        self._losses: list[float] = []

    def _through_engine(self, x, timesteps, *, encoder_hidden_states) -> UViTOutput:
        # DataParallel finds the tensors of a tuple, not those of a dataclass.
        (sample,) = self._engine(
            x, timesteps, encoder_hidden_states=encoder_hidden_states, return_dict=False
        )
        return UViTOutput(sample=sample)

    def begin(self) -> Fast:
        self._done, self._losses = 0, []
        return self

    def add(self, compute: Callable[[], paddle.Tensor], weight: float, scale: float, shard: int):
        """Add the gradient of `weight * scale * loss`; the last call of a step joins processes.

        `compute` gives a micro-batch's mean loss; `weight` is its share of the global batch.
        """
        self._done += 1
        last = self._done == self._parts
        # Forward too: DataParallel readies its buckets there.
        quiet = self._overlaps and not last
        with self._engine.no_sync() if quiet else contextlib.nullcontext():
            loss = compute()
            if last:
                self._world.meet()
            # DataParallel divides by the number of processes; weights are global already.
            factor = weight * scale * (self._world.size if self._overlaps else 1)
            (loss * factor).backward()
        self._losses.append(float(loss) * weight)

    def finish(self, stop: bool) -> Result:
        named = dict(self._layers.named_parameters())
        if self._world.size > 1 and not self._overlaps:
            self._all_reduce(named)
        told = self._world.gather(np.array([_sum(self._losses), float(stop)], np.float64))
        loss = _sum([float(values[0]) for values in told])
        stopping = any(values[1] for values in told)
        return {name: p.grad for name, p in named.items()}, loss, stopping

    def forget(self) -> None:
        """Let go of the step's gradients; DataParallel uses its buckets again, set to zero."""
        for parameter in self._layers.parameters():
            parameter.clear_gradient(self._overlaps)

    def _all_reduce(self, named: dict[str, paddle.Tensor]) -> None:
        self._world.meet()
        for parameter in named.values():
            paddle.distributed.all_reduce(parameter.grad)


class FixedOrder:
    """One gradient a shard, added as a fixed tree."""

    def __init__(self, model: nn.Layer, world: World):
        self.model, self._world = model, world

    def begin(self) -> FixedOrder:
        self._shard: int | None = None
        self._shard_loss = 0.0
        self._gradients, self._losses = Fold(), Fold()
        return self

    def add(self, compute: Callable[[], paddle.Tensor], weight: float, scale: float, shard: int):
        """Add the gradient of `weight * scale * loss` to its shard's; shards come in order."""
        if self._shard not in (None, shard):
            self._close()
        self._shard = shard
        loss = compute()
        (loss * (weight * scale)).backward()
        self._shard_loss += float(loss) * weight

    def _close(self) -> None:
        self._gradients.add(self._flat())
        self._losses.add(self._shard_loss)
        self._shard_loss = 0.0
        self.forget()

    def finish(self, stop: bool) -> Result:
        self._close()
        told = self._world.gather(np.array([self._losses.total(), float(stop)], np.float64))
        loss = fold([float(values[0]) for values in told])
        flat = self._gradients.total()
        if self._world.size > 1:
            flat = paddle.to_tensor(fold(self._world.gather(flat.numpy())))
        return self._split(flat), loss, any(values[1] for values in told)

    def forget(self) -> None:
        """Let go of the step's gradients."""
        for parameter in self.model.parameters():
            parameter.clear_gradient(False)

    def _flat(self) -> paddle.Tensor:
        gradients = [p.grad.reshape([-1]).astype("float32") for p in self.model.parameters()]
        return paddle.concat(gradients)

    def _split(self, flat: paddle.Tensor) -> dict[str, Any]:
        named = dict(self.model.named_parameters())
        pieces = paddle.split(flat, [p.size for p in named.values()])
        return {
            name: piece.reshape(p.shape).astype(p.dtype)
            for (name, p), piece in zip(named.items(), pieces, strict=True)
        }


def _sum(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total

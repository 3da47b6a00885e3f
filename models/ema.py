"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from paddle import nn

from harness.base.errors import DataError
from models import ops
from models.cpu import kernels, row_threads

# A model, or its weights by structured name.
Weights = Any  # nn.Layer | Mapping[str, paddle.Tensor]; paddle has no types


class EMA:
    """shadow = decay * shadow + (1 - decay) * weights, in float32, from the first update on.

    Starts as a copy of the weights and does not warm up, as the U-ViT authors' training does. It
    has no other state than the shadow, so that nothing can be forgotten in a checkpoint.
    Parameters are known by their structured names (`in_blocks.0.attn.qkv.weight`): `shadow` has
    the float32 tensors.
    """

    def __init__(self, model: Weights, decay: float = 0.9999):
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"an EMA decay lies in 0..1, not {decay}")
        self.decay = decay
        self.shadow = {
            name: paddle.assign(p.detach().astype(paddle.float32))
            for name, p in _named(model)
        }

    @paddle.no_grad()
    def update(self, model: Weights) -> None:
        """Move the average towards the weights that `model` has now.

        For a half-precision model, give the float32 master weights by name: increments of
        1 - decay are lost in half precision.
        """
        named = dict(_named(model))
        # The shadow is float32 where the weights are.
        if all(map(row_threads.tuned, named.values())):
            array = row_threads.array
            pairs = [(array(self.shadow[n]), array(p)) for n, p in named.items()]
            share = np.float32(1.0 - self.decay)
            row_threads.shared_flat(lambda s, w: kernels.move(s, w, share), pairs)
            return
        for name, parameter in named.items():
            shadow = self.shadow[name]
            # shadow += (1 - decay) (weights - shadow): three passes, the last two in place
            step = paddle.subtract(ops.cast(parameter, paddle.float32), shadow)
            shadow.add_(step.scale_(1.0 - self.decay))

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the average: parameter name -> float32 array in the model's own layout."""
        return row_threads.copies(self.shadow)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state()` gave. DataError lists every name or shape that is wrong."""
        faults = [f"missing {n}" for n in self.shadow if n not in state]
        faults += [f"unexpected {n}" for n in state if n not in self.shadow]
        for name in (n for n in self.shadow if n in state):
            found, want = list(np.shape(state[name])), list(self.shadow[name].shape)
            if found != want:
                faults.append(f"{name} has shape {found}, not {want}")
        if faults:
            raise DataError(
                "EMA weights do not fit the model: " + ", ".join(faults),
                remedy="use the checkpoint of a run of this configuration",
            )
        for name, shadow in self.shadow.items():
            shadow.set_value(np.asarray(state[name], dtype=np.float32))

    @paddle.no_grad()
    def copy_to(self, model: nn.Layer) -> None:
        """Overwrite the model's weights with the average, in the model's dtype."""
        for name, parameter in model.named_parameters():
            parameter.set_value(self.shadow[name].astype(parameter.dtype))


def _named(weights: Weights):
    return weights.items() if isinstance(weights, Mapping) else weights.named_parameters()

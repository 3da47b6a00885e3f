"""AdamW whose state is named after the model's parameters, and a learning rate by step.

Paddle's own optimizer names its state by a process-wide counter and creates it
lazily, so a state that was saved by one process may silently not load in
another. Here moments stand under the parameters' structured names, and the bias
corrections and the learning rate are pure functions of the step: there is
nothing else to save. The update itself is paddle's fused `adamw_` kernel on a
GPU, `models.cpu.kernels.adamw` on a CPU.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping

import numpy as np
import paddle

from harness.base.errors import DataError
from harness.configs.schema import Optim
from models.cpu import kernels, row_threads
from models.ema import EMA

# The kernel that knows AMSGrad (Paddle 3.x) takes its maximum after the moments, and its switch
# last; asked of the signature, since a nightly build's version tells nothing.
_AMSGRAD = "amsgrad" in inspect.signature(paddle.optimizer.AdamW).parameters


class AdamW:
    """Decoupled weight decay on every parameter, as official U-ViT has it (Loshchilov & Hutter).

    Moments are float32; half-precision parameters get float32 master weights,
    which are then the weights that checkpoints and the EMA see.
    """

    def __init__(self, parameters: Mapping[str, paddle.Tensor], optim: Optim):
        self._optim = optim
        self.parameters = dict(parameters)
        zeros = {n: paddle.zeros(p.shape, "float32") for n, p in self.parameters.items()}
        self._moment1 = zeros
        self._moment2 = {n: paddle.zeros(p.shape, "float32") for n, p in self.parameters.items()}
        self._master = {
            n: p.detach().astype("float32")
            for n, p in self.parameters.items()
            if p.dtype != paddle.float32
        }

    def weights(self) -> dict[str, paddle.Tensor]:
        """The float32 weights: the parameters themselves, or their master weights."""
        return {n: self._master.get(n, p) for n, p in self.parameters.items()}

    @paddle.no_grad()
    def apply(
        self, gradients: Mapping[str, paddle.Tensor], *, step: int, lr: float,
        average: EMA | None = None,
    ) -> None:
        """Update every parameter in place, and then their `average`.

        `step` counts from 1, the first update of moments that were zero.
        """
        if all(map(row_threads.tuned, self.parameters.values())):
            self._apply_on_cpu(gradients, step, lr, average)
        else:
            self._apply_by_paddle(gradients, step, lr)
            if average:
                average.update(self.weights())

    def _apply_on_cpu(
        self, gradients: Mapping[str, paddle.Tensor], step: int, lr: float, average: EMA | None
    ) -> None:
        o = self._optim
        constants = map(np.float32, (
            o.beta1, o.beta2, 1.0 - lr * o.weight_decay, lr / (1.0 - o.beta1**step),
            math.sqrt(1.0 - o.beta2**step), o.eps,
        ))
        tensors = [self.parameters, gradients, self._moment1, self._moment2]
        if average:
            tensors.append(average.shadow)
        groups = [[row_threads.array(named[n]) for named in tensors] for n in self.parameters]
        settings = tuple(constants)

        def work(weights, gradient, moment1, moment2, *shadow):
            kernels.adamw(weights, gradient, moment1, moment2, *settings)
            if average:  # while the weights are in the cache
                kernels.move(*shadow, weights, np.float32(1.0 - average.decay))

        row_threads.shared_flat(work, groups)

    def _apply_by_paddle(
        self, gradients: Mapping[str, paddle.Tensor], step: int, lr: float
    ) -> None:
        o = self._optim
        rate = paddle.to_tensor([lr], "float32")
        powers = [
            paddle.to_tensor([np.float32(beta**step)], place=paddle.CPUPlace())
            for beta in (o.beta1, o.beta2)
        ]
        maximum, switch = ([None], [False]) if _AMSGRAD else ([], [])
        for name, parameter in self.parameters.items():
            master = self._master.get(name)
            # Positions after the tensors: beta1, beta2, epsilon, lr_ratio, weight decay,
            # with_decay, lazy_mode, rows for multi-threading, multi_precision, global beta powers.
            paddle._C_ops.adamw_(
                parameter, gradients[name], rate, self._moment1[name], self._moment2[name],
                *maximum, *powers, master, None, o.beta1, o.beta2, o.eps, 1.0, o.weight_decay,
                True, False, 1000, master is not None, True, *switch,
            )

    def state(self) -> dict[str, np.ndarray]:
        """Moments as `moment1.<parameter>` and `moment2.<parameter>`, float32 (copies)."""
        moments = {f"moment1.{n}": t for n, t in self._moment1.items()}
        return row_threads.copies(moments | {f"moment2.{n}": t for n, t in self._moment2.items()})

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state()` gave; DataError names what does not fit."""
        expected = {f"moment{k}.{n}" for k in (1, 2) for n in self.parameters}
        if set(state) != expected:
            odd = sorted(set(state) ^ expected)[0]
            raise DataError(f"optimizer state does not fit the model: {odd} is missing or unknown")
        for name, parameter in self.parameters.items():
            for prefix, moments in (("moment1", self._moment1), ("moment2", self._moment2)):
                value = state[f"{prefix}.{name}"]
                if list(value.shape) != parameter.shape or value.dtype != np.float32:
                    raise DataError(f"optimizer state {prefix}.{name} has a wrong shape or dtype")
                moments[name].set_value(value)

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the parameters (and master weights) from float32 arrays; DataError if they differ."""
        load_weights(self.parameters, weights)
        for name, master in self._master.items():
            master.set_value(weights[name])


def load_weights(
    parameters: Mapping[str, paddle.Tensor], weights: Mapping[str, np.ndarray]
) -> None:
    """Set `parameters` from float32 arrays of the same names and shapes; else DataError."""
    if set(weights) != set(parameters):
        odd = sorted(set(weights) ^ set(parameters))[0]
        raise DataError(f"weights do not fit the model: {odd} is missing or unknown")
    for name, parameter in parameters.items():
        if list(weights[name].shape) != parameter.shape:
            raise DataError(
                f"weights do not fit the model: {name} is {list(weights[name].shape)}, "
                f"expected {list(parameter.shape)}"
            )
    for name, parameter in parameters.items():
        parameter.set_value(paddle.to_tensor(weights[name]).astype(parameter.dtype))


def clip_by_global_norm(gradients: dict[str, paddle.Tensor], max_norm: float) -> float:
    """Scale gradients in place so that their joint L2 norm is at most `max_norm`; returns it.

    Norms are summed in parameter order, in float64, so the result has one set of bits.
    """
    squares = [float(g.astype("float32").square().sum()) for g in gradients.values()]
    norm = math.sqrt(math.fsum(squares))
    if norm > max_norm:
        for gradient in gradients.values():
            gradient.scale_(max_norm / (norm + 1e-6))
    return norm

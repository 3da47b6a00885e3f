"""The training step: model, optimizer and EMA, and nothing about files or logs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import paddle

from harness import seeds
from harness.configs import Config
from harness.data import Batch
from harness.errors import DataError, EnvironmentFault, HarnessError
from harness.optim import AdamW, clip_by_global_norm, learning_rate
from models.diffusion import Schedule
from models.ema import EMA
from models.uvit import UViT


class Trainer:
    """Weights, optimizer and EMA at `step` (steps done). Everything it does is by step number."""

    def __init__(self, config: Config, seed: int):
        _refuse_impossible(config)
        self.config = config
        self.step = 0
        model = config.model.model_dump()
        self.model = UViT(
            **model, recompute=config.train.recompute, attention=config.train.attention
        )
        self.model.init_weights(seeds.generator(seed, "weights"))
        self.model.train()
        diffusion = config.diffusion
        self.schedule = Schedule(
            diffusion.num_train_timesteps, diffusion.beta_start, diffusion.beta_end
        )
        self.ema = EMA(self.model, config.ema.decay)
        precision = config.train.precision
        if precision != "fp32" and config.train.amp_level == "O2":
            paddle.amp.decorate(self.model, level="O2", dtype=_DTYPE[precision])
        self.optimizer = AdamW(dict(self.model.named_parameters()), config.optim)
        self.scale = LossScale() if precision == "fp16" else None

    def train(self, batches: Iterable[Batch]) -> float:
        """One optimizer step on the micro-batches of one global batch; returns its mean loss.

        Every micro-batch weighs by its number of samples. HarnessError (naming the
        step) if the loss is not finite; the weights are then those of the step before.
        """
        size = self.config.train.global_batch_size
        loss = 0.0
        for batch in batches:
            loss += self._backward(batch, len(batch.timesteps) / size)
        if not math.isfinite(loss):
            self.model.clear_gradients()
            raise NonFiniteLoss(
                f"the loss became {loss} at step {self.step + 1}",
                remedy="lower optim.lr, or check the data; the last checkpoint is untouched",
            )
        self._update()
        return loss

    def _backward(self, batch: Batch, weight: float) -> float:
        with self._autocast():
            loss = self.schedule.loss(
                self.model, batch.latents, batch.noise, batch.timesteps, batch.context
            )
        scale = self.scale.value if self.scale else 1.0
        (loss * (weight * scale)).backward()
        return float(loss) * weight

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        train = self.config.train
        if train.precision == "fp32":
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level=train.amp_level, dtype=_DTYPE[train.precision])

    def _update(self) -> None:
        optim = self.config.optim
        gradients = {n: p.grad for n, p in self.model.named_parameters()}
        usable = self.scale is None or self.scale.unscale(gradients)
        self.step += 1
        if usable:
            if optim.max_grad_norm > 0:
                clip_by_global_norm(gradients, optim.max_grad_norm)
            lr = learning_rate(optim, self.step, self.config.train.max_steps)
            self.optimizer.apply(gradients, step=self.step, lr=lr)
            self.ema.update(self.optimizer.weights())
        self.model.clear_gradients()

    def state(self) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """(parts, state) for a checkpoint: copies, float32."""
        parts = {
            "model": {n: t.numpy() for n, t in self.optimizer.weights().items()},
            "ema": self.ema.state(),
            "optimizer": self.optimizer.state(),
        }
        return parts, {"loss_scale": self.scale.state() if self.scale else None}

    def load(
        self, step: int, parts: dict[str, dict[str, np.ndarray]], state: dict[str, Any]
    ) -> None:
        """Continue from a checkpoint; DataError if it does not fit the model."""
        self.optimizer.load_weights(parts["model"])
        self.ema.load(parts["ema"])
        self.optimizer.load(parts["optimizer"])
        if self.scale is not None:
            if not isinstance(state.get("loss_scale"), dict):
                raise DataError("the checkpoint has no loss scale; it was not trained in fp16")
            self.scale.load(state["loss_scale"])
        self.step = step


class NonFiniteLoss(HarnessError):
    """Training diverged: NaN or infinity where the loss should be."""

    exit_code = 4


class LossScale:
    """Dynamic loss scaling for fp16 (Micikevicius et al. 2018), with a state that can be saved.

    Doubles after 2,000 usable steps, halves when a gradient overflows (that step is skipped).
    """

    def __init__(self) -> None:
        self.value, self._good = 65536.0, 0

    @paddle.no_grad()
    def unscale(self, gradients: dict[str, paddle.Tensor]) -> bool:
        """Divide gradients by the scale in place; False if one is not finite."""
        finite = all(bool(paddle.isfinite(g.astype("float32").sum())) for g in gradients.values())
        if not finite:
            self.value, self._good = max(self.value / 2.0, 1.0), 0
            return False
        for gradient in gradients.values():
            gradient.scale_(1.0 / self.value)
        self._good += 1
        if self._good == 2000:
            self.value, self._good = min(self.value * 2.0, 2.0**24), 0
        return True

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "good_steps": self._good}

    def load(self, state: dict[str, Any]) -> None:
        self.value, self._good = float(state["value"]), int(state["good_steps"])


_DTYPE = {"fp16": "float16", "bf16": "bfloat16"}


def _refuse_impossible(config: Config) -> None:
    """Half precision on a CPU would silently be fp32 (paddle's auto_cast does nothing there)."""
    if config.train.precision != "fp32" and not paddle.device.get_device().startswith("gpu"):
        raise EnvironmentFault(
            f"train.precision = {config.train.precision!r} needs a GPU: paddle's CPU build has no "
            "half-precision kernels and would silently compute in fp32",
            remedy="use --set train.precision=fp32, or run on a GPU",
        )

"""The training step: model, optimizer and EMA, and nothing about files or logs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import paddle

from harness.base import kernel_choice, seeds
from harness.base.errors import DataError, EnvironmentFault, HarnessError
from harness.configs import Config
from harness.data import Batch
from harness.distributed import gradient_sum
from harness.distributed.process_group import World, check_shards
from harness.training.learning_rate import learning_rate
from harness.training.optimizer import AdamW, clip_by_global_norm, load_weights
from models.cpu import row_threads
from models.diffusion import Schedule
from models.ema import EMA
from models.uvit import UViT


class Trainer:
    """Weights, optimizer and EMA at `step` (steps done). Everything it does is by step number.

    In a `world` of several processes every one has all weights; with
    `train.shard_optimizer` each keeps moments and EMA of its own part of the parameters.
    """

    def __init__(self, config: Config, seed: int, world: World | None = None):
        self.world = world or World.alone()
        _refuse_impossible(config, self.world)
        self.config = config
        self.step = self.first_step = 0  # moments are zero at the first; not 0 for imported weights
        model = config.model.model_dump()
        self.model = UViT(
            **model, recompute=config.train.recompute, attention=config.train.attention
        )
        self.model.init_weights(seeds.generator(seed, "weights"))
        self.model.train()
        self.schedule = Schedule.of(config.diffusion)
        precision = config.train.precision
        if precision != "fp32" and config.train.amp_level == "O2":
            paddle.amp.decorate(self.model, level="O2", dtype=_DTYPE[precision])
        parameters = dict(self.model.named_parameters())
        sizes = {name: parameter.size for name, parameter in parameters.items()}
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._owners = self.world.owners(sizes) if config.train.shard_optimizer else None
        self.optimizer = AdamW({n: parameters[n] for n in self._own(parameters)}, config.optim)
        self.ema = EMA(self.optimizer.weights(), config.ema.decay)
        self.scale = LossScale() if precision == "fp16" else None
        self._reduction = gradient_sum.make(self.model, config, self.world)

    def train(
        self, batches: Iterable[tuple[int, Batch]], *, stop: bool = False
    ) -> tuple[float, bool]:
        """One optimizer step on this process's (shard, micro-batch) pairs of one global batch.

        Returns the global batch's mean loss, and whether any process said `stop`.
        NonFiniteLoss names the step; the weights are then those of the step before.
        """
        size = self.config.train.global_batch_size
        self.world.where = f" in step {self.step + 1}"
        collect = self._reduction.begin()
        for shard, batch in batches:
            weight = len(batch.timesteps) / size
            scale = self.scale.value if self.scale else 1.0
            collect.add(partial(self._loss, batch), weight, scale, shard)
        gradients, loss, stopping = collect.finish(stop)
        self.world.where = ""
        if not math.isfinite(loss):
            self._reduction.forget()
            raise NonFiniteLoss(
                f"the loss became {loss} at step {self.step + 1}",
                remedy="lower optim.lr, or check the data; the last checkpoint is untouched",
            )
        self._update(gradients)
        return loss, stopping

    def _loss(self, batch: Batch) -> paddle.Tensor:
        with self._autocast():
            return self.schedule.loss(
                self._reduction.model, batch.latents, batch.noise, batch.timesteps, batch.context
            )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        train = self.config.train
        if train.precision == "fp32":
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level=train.amp_level, dtype=_DTYPE[train.precision])

    def _update(self, gradients: dict[str, paddle.Tensor]) -> None:
        optim = self.config.optim
        usable = self.scale is None or self.scale.unscale(gradients)
        self.step += 1
        if usable:
            if optim.max_grad_norm > 0:
                clip_by_global_norm(gradients, optim.max_grad_norm)
            lr = learning_rate(optim, self.step, self.config.train.max_steps)
            self.optimizer.apply(
                gradients, step=self.step - self.first_step, lr=lr, average=self.ema
            )
            self._share_weights()
        self._reduction.forget()

    def _own(self, names: Iterable[str]) -> list[str]:
        """Names of the parameters whose moments and EMA this process keeps."""
        return [n for n in names if self._owners is None or self._owners[n] == self.world.rank]

    def _share_weights(self) -> None:
        """Give everybody the weights that each has updated for the parameters it owns."""
        if self._owners is None or self.world.size == 1:
            return
        own = {n: _array(self.optimizer.parameters[n]) for n in self.optimizer.parameters}
        everything = self.world.spread(own, self._shapes, self._owners)
        for name, parameter in self.model.named_parameters():
            if name not in own:
                parameter.set_value(paddle.to_tensor(everything[name]).astype(parameter.dtype))

    def _whole(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of all parameters from those of each process's own."""
        if self._owners is None or self.world.size == 1:
            return arrays
        return self.world.spread(arrays, self._shapes, self._owners)

    def average(self) -> dict[str, np.ndarray]:
        """The EMA weights, float32, whole on every process (all of them must ask)."""
        return self._whole(self.ema.state())

    @contextlib.contextmanager
    def averaged(self) -> Iterator[UViT]:
        """Within, the model has the EMA weights; its own come back bit for bit after."""
        own = {n: paddle.assign(p.detach()) for n, p in self.model.named_parameters()}
        average = self.average()
        try:
            for name, parameter in self.model.named_parameters():
                parameter.set_value(paddle.to_tensor(average[name]).astype(parameter.dtype))
            yield self.model
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.set_value(own[name])

    def state(self) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """(parts, state) for a checkpoint: copies, float32, the same whatever the world."""
        optimizer = self.optimizer.state()
        moments: dict[str, Any] = {}
        for k in ("moment1", "moment2"):
            own = {n.removeprefix(f"{k}."): a for n, a in optimizer.items() if n.startswith(k)}
            moments |= {f"{k}.{n}": a for n, a in self._whole(own).items()}
        weights = row_threads.copies(self.optimizer.weights())
        parts = {"model": self._whole(weights), "ema": self.average(), "optimizer": moments}
        state: dict[str, Any] = {"loss_scale": self.scale.state() if self.scale else None}
        return parts, state | ({"first_step": self.first_step} if self.first_step else {})

    def load(
        self, step: int, parts: dict[str, dict[str, np.ndarray]], state: dict[str, Any]
    ) -> None:
        """Continue from a checkpoint of any world; DataError if it does not fit the model."""
        named = dict(self.model.named_parameters())
        load_weights(named, parts["model"])
        self.optimizer.load_weights(self._part(parts["model"], named))
        self.ema.load(self._part(parts["ema"], named))
        keys = [f"moment{k}.{n}" for k in (1, 2) for n in named]
        self.optimizer.load(self._part(parts["optimizer"], keys))
        if self.scale is not None:
            if not isinstance(state.get("loss_scale"), dict):
                raise DataError("the checkpoint has no loss scale; it was not trained in fp16")
            self.scale.load(state["loss_scale"])
        first = state.get("first_step", 0)
        if type(first) is not int or not 0 <= first <= step:
            raise DataError(f"the checkpoint of step {step} says that training began at {first!r}")
        self.step, self.first_step = step, first

    def _part(self, arrays: dict[str, np.ndarray], known: Iterable[str]) -> dict[str, np.ndarray]:
        """`arrays` less what other processes own; names that nobody knows stay, to be refused."""
        if self._owners is None:
            return arrays
        own = set(self._own(self._shapes))
        parameters = {n: n.removeprefix("moment1.").removeprefix("moment2.") for n in known}
        others = {n for n, parameter in parameters.items() if parameter not in own}
        return {n: a for n, a in arrays.items() if n not in others}


class NonFiniteLoss(HarnessError):
    """Training diverged: NaN or infinity where the loss, or a weight, should be."""

    exit_code = 4


class LossScale:
    """Dynamic loss scaling for fp16 (Micikevicius et al. 2018), with a state that can be saved.

    Doubles after 2,000 usable steps, halves when a gradient overflows (that step is skipped).
    """

    def __init__(self) -> None:
        self.value, self._good = 65536.0, 0

    @paddle.no_grad()
    def unscale(self, gradients: dict[str, paddle.Tensor]) -> bool:
        """Divide gradients by the scale, in place or as float32; False if one is not finite."""
        finite = all(bool(paddle.isfinite(g.astype("float32").sum())) for g in gradients.values())
        if not finite:
            self.value, self._good = max(self.value / 2.0, 1.0), 0
            return False
        for name, gradient in gradients.items():
            if gradient.dtype != paddle.float32:  # float16 has no room for what the scale kept
                gradient = gradients[name] = gradient.astype("float32")
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


def _array(tensor: paddle.Tensor) -> np.ndarray:
    return tensor.astype("float32").numpy()


def _refuse_impossible(config: Config, world: World) -> None:
    """What no process could do, refused before memory is taken.

    Half precision on a CPU would silently be fp32 (paddle's auto_cast does nothing there).
    """
    if config.train.reduction == "fixed-order":
        check_shards(config.train.shards, world)
    if config.train.precision != "fp32" and kernel_choice.static():
        raise EnvironmentFault(
            f"static execution is not for train.precision = {config.train.precision!r}: "
            "what paddle casts in a graph was never tried",
            remedy="use --set train.precision=fp32, or --execution eager",
        )
    if config.train.precision != "fp32" and not paddle.device.get_device().startswith("gpu"):
        raise EnvironmentFault(
            f"train.precision = {config.train.precision!r} needs a GPU: paddle's CPU build has no "
            "half-precision kernels and would silently compute in fp32",
            remedy="use --set train.precision=fp32, or run on a GPU",
        )

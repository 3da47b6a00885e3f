"""A plan: what fits, what a run takes, what it leaves on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval import protocols
from harness.base.errors import UsageError
from harness.configs import Config
from harness.plan import memory, speed
from harness.plan.devices import Device
from harness.plan.speed import Range, Rate
from reports.tables import flops

# An allocator cannot use the last of a device's memory; a CPU's also holds paddle itself.
_USABLE = 0.92
_DAY, _HOUR = 86_400.0, 3_600.0


@dataclass(frozen=True)
class Choice:
    """One way to train: so many samples at a time on so many devices, and what it takes there."""

    devices: int
    micro_batch: int
    recompute: bool
    shard_optimizer: bool
    memory: dict[str, float]  # bytes on each device, by part
    fits: bool
    step_seconds: Range
    images_per_second: Range
    days: Range

    @property
    def bytes(self) -> float:
        return memory.total(self.memory)


def choice(
    config: Config, device: Device, rate: Rate, *, devices: int, nodes: int, micro_batch: int
) -> Choice:
    """What `config` takes with this micro-batch, on `devices` in all."""
    train = config.train
    parts = memory.parts(config, micro_batch, devices=devices, on_cpu=device.is_cpu)
    least, most = speed.step_seconds(config, rate, device, devices=devices, nodes=nodes)
    images = train.global_batch_size
    return Choice(
        devices, micro_batch, train.recompute, train.shard_optimizer, parts,
        memory.total(parts) <= _USABLE * device.memory, (least, most),
        (images / most, images / least),
        (train.max_steps * least / _DAY, train.max_steps * most / _DAY),
    )


def settle(
    config: Config, device: Device, rate: Rate, *, devices: int, nodes: int
) -> tuple[Config, Choice]:
    """The config as it is if it fits; else smaller micro-batches, then sharding, then recompute.

    Returned is the first that fits, or the last tried: what it lacks is then in its memory.
    """
    for more in _variants(config, devices):
        changed = config.model_copy(update={"train": config.train.model_copy(update=more)})
        for micro in micro_batches(changed, devices):
            if micro > config.train.micro_batch_size:
                continue
            found = choice(changed, device, rate, devices=devices, nodes=nodes, micro_batch=micro)
            if found.fits:
                return changed, found
    return changed, found


def _variants(config: Config, devices: int) -> list[dict[str, bool]]:
    train = config.train
    shards = [train.shard_optimizer] if devices == 1 else sorted({train.shard_optimizer, True})
    return [
        {"shard_optimizer": shard, "recompute": again}
        for again in sorted({train.recompute, True}) for shard in shards
    ]


def micro_batches(config: Config, devices: int) -> list[int]:
    """What one device can take at a time, the most first; UsageError if it does not divide."""
    whole = config.train.global_batch_size
    if whole % devices:
        possible = [n for n in range(1, min(whole, 4096) + 1) if whole % n == 0]
        raise UsageError(
            f"a global batch of {whole} cannot be divided among {devices} devices",
            remedy=f"possible: {', '.join(map(str, possible[:24]))}",
        )
    own = whole // devices
    return [n for n in range(own, 0, -1) if own % n == 0]


def enough(config: Config, device: Device, rate: Rate, days: float, *, most: int = 1024) -> int:
    """The fewest devices, 8 a machine, by which the run is done within `days` even at the worst.

    UsageError if as many as `most`, or as divide the global batch, are too few.
    """
    whole = config.train.global_batch_size
    tried = [n for n in range(1, min(most, whole) + 1) if whole % n == 0]
    for count in tried:
        _, found = settle(config, device, rate, devices=count, nodes=-(-count // 8))
        if found.fits and found.days[1] <= days:
            return count
    raise UsageError(f"{tried[-1]} devices are not enough for {days:g} days",
                     remedy="give more time, fewer steps or a faster device")


def make(
    config: Config, device: Device, *, devices: int = 1, nodes: int = 1,
    price: float | None = None, run: Path | None = None, target: float | None = None,
) -> dict[str, Any]:
    """The whole plan as JSON values; times are [least, most].

    `price`: money for one device for one hour; `run`: a run whose measured speed is taken;
    `target`: days, in place of `devices`. Errors: UsageError, DataError of the run.
    """
    precision = config.train.precision
    rate = speed.measured(run, device, precision) if run else speed.assumed(device, precision)
    if target is not None:
        devices = enough(config, device, rate, target)
        nodes = -(-devices // 8)
    if device.is_cpu and devices > nodes:
        raise UsageError("several workers on one CPU share it", remedy="leave --devices at 1")
    changed, found = settle(config, device, rate, devices=devices, nodes=nodes)
    train = config.train
    evaluations = train.max_steps // train.eval_steps if train.eval_steps else 0
    evaluations += train.eval_at_start
    on_the_way, final = (
        speed.evaluation_seconds(config, protocols.get(name), rate, devices=devices)
        for name in (config.eval.train_protocol, config.eval.protocol)
    )
    days = tuple(
        training + evaluations * evaluating / _DAY
        for training, evaluating in zip(found.days, on_the_way, strict=True)
    )
    hours = tuple(24 * devices * one for one in days)
    model = config.model.model_dump()
    asked = min(train.micro_batch_size, train.global_batch_size // devices)
    return {
        "config": config.name, "device": device.name, "devices": devices, "nodes": nodes,
        "memory_of_device": device.memory, "parameters": flops.parameters(model),
        "as_pinned": changed.train == train and found.micro_batch == asked,
        "choice": {**asdict(found), "bytes": found.bytes},
        "steps": train.max_steps, "days": days, "device_hours": hours,
        "cost": tuple(price * one for one in hours) if price is not None else None,
        "evaluations": evaluations, "evaluation_hours": tuple(s / _HOUR for s in on_the_way),
        "final_evaluation_hours": tuple(s / _HOUR for s in final),
        "checkpoint_bytes": memory.of_run(config),
        "checkpoints_bytes": (train.keep_checkpoints + 1) * memory.of_run(config),
        "rate": rate.source,
        "table": [
            {**asdict(one), "bytes": one.bytes}
            for one in table(changed, device, rate, devices=devices, nodes=nodes)
        ],
    }


def table(
    config: Config, device: Device, rate: Rate, *, devices: int, nodes: int
) -> list[Choice]:
    """Powers of two of devices around `devices`, each with its largest micro-batches."""
    found = []
    for count in sorted({max(1, devices // 2), devices, 2 * devices}):
        if config.train.global_batch_size % count:
            continue
        each = max(1, nodes * count // devices)
        for micro in [n for n in micro_batches(config, count) if n & (n - 1) == 0][:4]:
            found.append(choice(config, device, rate, devices=count, nodes=each, micro_batch=micro))
    return found

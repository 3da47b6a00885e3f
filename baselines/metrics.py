"""What the gate reads from a run: one value a metric, and what must agree to the bit."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

from baselines import disturbances, significance
from eval import protocols
from harness import files, runs
from harness.base import kernel_choice
from harness.base.errors import DataError
from harness.runs import checkpoints


@dataclass(frozen=True)
class Metric:
    """How a metric is compared. `minimum`: the least effect that counts.

    `scale` ratio: relative change (compared as logarithms); difference: in the metric's unit.
    """

    unit: str
    more_is_better: bool
    minimum: float
    scale: str = "ratio"

    def worse(self, value: float) -> float:
        """`value` on the scale of the statistics, where more is worse."""
        value = math.log(value) if self.scale == "ratio" else value
        return -value if self.more_is_better else value


METRICS = {
    "throughput": Metric("images/s", True, 0.03),
    "host_memory": Metric("bytes", False, 0.03),
    "device_memory": Metric("bytes", False, 0.03),
    "train_loss": Metric("", False, 0.03),
    "val_loss": Metric("", False, 0.01),  # and 3 of its own standard errors
    "fid": Metric("", False, 0.03),
    "fd_digits": Metric("", False, 0.03),
    "accuracy": Metric("share", True, 0.03, "difference"),
}
# Figures of evaluations that are gated on; their key in a baseline is NAME/PROTOCOL.
QUALITY = ("fid", "fd_digits", "accuracy", "val_loss")
MACHINE_METRICS = ("throughput", "host_memory", "device_memory")
# What must be equal for times and bytes to be comparable; the rest of a fingerprint (versions,
# drivers) is what a gate watches.
MACHINE_KEYS = (
    "machine", "device", "world_size", "env.OMP_NUM_THREADS", "env.MKL_NUM_THREADS",
    *kernel_choice.CHOICES,
)
ANCHORS = 32  # points of the loss curve that a baseline keeps, to say where two curves part


@dataclass(frozen=True)
class Value:
    """One run's figure. `noise`: relative spread within the run; `error`: its standard error."""

    value: float
    noise: float | None = None
    error: float | None = None
    protocol: dict[str, Any] | None = None
    conditions: dict[str, float] | None = None  # see baselines.disturbances; of times alone


@dataclass(frozen=True)
class Bits:
    """What must be identical within one fingerprint; None where the run does not have it."""

    loss: list[tuple[int, str]] | None = None  # (step, loss as hex)
    weights: str | None = None
    ema: str | None = None
    broken: dict[str, str] = field(default_factory=dict)  # weights or ema -> what is wrong


@dataclass(frozen=True)
class Measured:
    """One run at one step, as the gate sees it."""

    run: runs.Run
    step: int
    values: dict[str, Value]
    bits: Bits

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.run.info["fingerprint"]


def family(key: str) -> str:
    """The metric of a key: `fid/coco-ddim50` -> `fid`."""
    return key.partition("/")[0]


def last_step(run: runs.Run) -> int:
    """The step of the run's newest checkpoint; DataError if it has none."""
    steps = run.checkpoint_steps()
    if not steps:
        raise DataError(f"{run.directory} has no checkpoint", remedy="let the run end, then again")
    return steps[-1]


def measure(run: runs.Run, step: int) -> Measured:
    """Read what `run` had come to by `step`; what it does not have is left out."""
    curve = _loss_curve(run, step)
    values = training_values(run, step, curve) | _quality(run, step)
    return Measured(run, step, values, _bits(run, step, curve))


def light_values(run: runs.Run, step: int) -> dict[str, Value]:
    """`measure`'s values of a copy without checkpoints."""
    return training_values(run, step, light=True) | _quality(run, step)


def training_values(
    run: runs.Run, step: int, curve: list[tuple[int, str]] | None = None, *, light: bool = False
) -> dict[str, Value]:
    """What the logs alone tell of `run` by `step`: speed, memory and loss.

    `light`: of a copy without checkpoints, as the nightly history keeps them.
    """
    lines = [line for line in run.timing() if line["step"] <= step]
    for line in lines:
        if not files.is_number(line.get("steps_timed") or 0):
            raise DataError(
                f"{run.timing_file}: steps_timed of step {line['step']} is not as it was written")
    values: dict[str, Value] = {}
    if (found := throughput(lines, _train(run, "global_batch_size"))) is not None:
        values["throughput"] = found
    for key, entry in (("host_memory", "peak_host_bytes"), ("device_memory", "peak_device_bytes")):
        peaks = [line[entry] for line in lines if files.is_number(line.get(entry))]
        if peaks:
            values[key] = Value(float(max(peaks)))
    curve = _loss_curve(run, step) if curve is None else curve
    # A run that was stopped before has a loss that was still falling, not a worse one.
    if curve and (light or max(run.checkpoint_steps(), default=0) >= step):
        tail = [float.fromhex(text) for _, text in curve[-max(1, len(curve) // 4):]]
        values["train_loss"] = Value(math.fsum(tail) / len(tail))
    return values


def throughput(lines: list[dict[str, Any]], images_per_step: int) -> Value | None:
    """Images per second at the median step, from lines of timing.jsonl; None if no step was timed.

    A process's first steps are not in the lines at all (harness.training.measure); the first timed
    stretch is left out as well where there are enough, since caches are still filling.
    """
    timed = [
        line for line in lines if line.get("steps_timed") and files.is_number(line.get("step_ms"))
    ]
    timed = timed[1:] if len(timed) > 3 else timed
    if not timed or min(line["step_ms"] for line in timed) <= 0:
        return None
    times = [line["step_ms"] for line in timed]
    middle = significance.median(times, [line["steps_timed"] for line in timed])
    noise = significance.robust_spread(times) / middle if len(times) > 2 else None
    return Value(
        1e3 * images_per_step / middle, noise=noise, conditions=disturbances.of_lines(timed)
    )


def _quality(run: runs.Run, step: int) -> dict[str, Value]:
    values = {}
    for result in run.results():
        metrics, protocol = result.get("metrics"), result.get("protocol")
        if result.get("step") != step or not isinstance(metrics, dict):
            continue
        if not isinstance(protocol, dict):
            raise DataError(f"{result['directory']}/result.json has no protocol")
        name = protocol.get("name", "unnamed")
        for key in QUALITY:
            if metrics.get(key) is not None:
                value = metrics[key] if files.is_number(metrics[key], finite=False) else math.nan
                error = _standard_error(result, key)
                values[f"{key}/{name}"] = Value(
                    float(value), error=error, protocol=protocols.without_paths(protocol)
                )
    return values


def _standard_error(result: dict[str, Any], key: str) -> float | None:
    """The figure's own standard error where the evaluation gives one."""
    if key == "val_loss":
        found = result.get("validation")
    else:
        uncertainty = result.get("uncertainty")
        found = uncertainty.get(key) if isinstance(uncertainty, dict) else None
    error = found.get("standard_error") if isinstance(found, dict) else None
    return float(error) if files.is_number(error) else None


def _train(run: runs.Run, key: str) -> int:
    """A count in the config's section `train`, whatever version wrote the rest of it."""
    train = run.info["config"].get("train")
    value = train.get(key) if isinstance(train, dict) else None
    if type(value) is not int or value < 1:
        raise DataError(f"{run.directory}/run.json: the config has no train.{key}")
    return value


def _loss_curve(run: runs.Run, step: int) -> list[tuple[int, str]]:
    """Lines that every run of this config has: step 1 and the multiples of log_steps."""
    every = _train(run, "log_steps")
    lines = (line for line in run.metrics() if line["step"] <= step)
    curve = [(line["step"], line.get("loss_hex", "")) for line in lines
             if line["step"] == 1 or line["step"] % every == 0]
    for at, text in curve:
        try:
            float.fromhex(text)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{run.metrics_file}: step {at} has no loss_hex") from None
    return curve


def _bits(run: runs.Run, step: int, curve: list[tuple[int, str]]) -> Bits:
    digests: dict[str, str] = {}
    broken: dict[str, str] = {}
    for key, part in (("weights", "model"), ("ema", "ema")):
        if step not in run.checkpoint_steps():
            continue
        try:
            digests[key] = _digest(run, step, part)
        except DataError as error:
            broken[key] = str(error)
    return Bits(curve or None, digests.get("weights"), digests.get("ema"), broken)


def _digest(run: runs.Run, step: int, part: str) -> str:
    """SHA-256 of the tensors as they lie on disk, not as a manifest says they should."""
    found = checkpoints.load(
        run.checkpoint(step), config_digest=run.info["digest"], parts=(part,)
    )
    return checkpoints.tensors_digest(found.parts[part])


def chain(curve: list[tuple[int, str]]) -> list[str]:
    """SHA-256 (hex) over the lines up to and including each line."""
    digest, chained = hashlib.sha256(), []
    for step, text in curve:
        digest.update(f"{step} {text}\n".encode())
        chained.append(digest.hexdigest())
    return chained

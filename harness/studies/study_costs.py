"""What the cells of a study will take, by arithmetic and data sheets (harness.plan)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.base import container_limits
from harness.plan import memory, plan, speed
from harness.plan.devices import Device
from harness.plan.speed import Range, Rate
from harness.studies.study_file import Study

_HOUR = 3_600.0


@dataclass(frozen=True)
class Cost:
    """What one cell takes, whatever its seed: device-hours [least, most], bytes on disk.

    `fits`: whether it fits the devices, if need be in smaller micro-batches or recomputing.
    """

    training: Range
    evaluating: Range
    disk: float
    fits: bool

    @property
    def hours(self) -> Range:
        return self.training[0] + self.evaluating[0], self.training[1] + self.evaluating[1]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hours": self.hours}


def costs(study: Study, device: Device) -> dict[tuple[str, str], Cost]:
    """(config, variant) -> what a cell of it takes on `device`; UsageError of a plan."""
    found = {}
    count = study.nproc * study.nnodes
    rates = {
        precision: _rate(study, device, precision)
        for precision in {config.train.precision for config in study.trained.values()}
    }
    for config in study.configs:
        for variant in study.variants:
            axes = {"config": config, "variant": variant}
            trained = study.config(axes)
            rate = rates[trained.train.precision]
            _, choice = plan.settle(trained, device, rate, devices=count, nodes=study.nnodes)
            steps = study.last_step(axes)
            training = tuple(count * steps * one / _HOUR for one in choice.step_seconds)
            evaluations = [
                speed.evaluation_seconds(trained, one.of(trained), rate, devices=count)
                for one in study.protocols.values() for _ in study.evaluated_steps(axes)
            ]
            least, most = (count * sum(one[at] for one in evaluations) / _HOUR for at in (0, 1))
            kept = trained.train.keep_checkpoints + 1
            found[config, variant] = Cost(
                (training[0], training[1]), (least, most), kept * memory.of_run(trained),
                choice.fits)
    return found


def _rate(study: Study, device: Device, precision: str) -> Rate:
    """A CPU's is measured of all its processors, of which a cell has its threads alone."""
    rate = speed.assumed(device, precision)
    if not device.is_cpu:
        return rate
    share = min(1.0, study.threads / max(1.0, container_limits.usable()))
    return replace(rate, least=share * rate.least, most=share * rate.most)

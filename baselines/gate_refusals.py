"""What the gate lets in: which runs, and which of their figures, may be set against a baseline."""

from __future__ import annotations

from collections.abc import Sequence

from baselines import metrics
from baselines.metrics import Measured
from baselines.record import Baseline, data_identity, named, other_data, other_machine
from harness import configs, runs
from harness.base import kernel_choice
from harness.base.errors import DataError


def first_refusal(
    found: Sequence[runs.Run], baseline: Baseline, kernels: str | None = None
) -> str | None:
    """Why nothing may be compared, or None; `kernels`: what all have to be of (None: the same)."""
    made = baseline.content["fingerprint"].get("kernels")
    if kernels not in (None, made):
        return f"the baseline was recorded with kernels {made}, --kernels says {kernels}"
    return next(filter(None, (_refusal(run, baseline) for run in found)), None)


def _refusal(run: runs.Run, baseline: Baseline) -> str | None:
    """Why nothing of `run` may be compared with `baseline`, or None."""
    content = baseline.content
    try:
        run.config  # noqa: B018 - refuses a run.json that was changed by hand
    except DataError as error:
        return str(error)
    if not run.info.get("pinned"):
        return f"{run.directory} is not a run of a pinned config"
    if run.info["digest"] != content["digest"]:
        name = run.info["config"]["name"]
        return (
            f"{run.directory} has config digest {run.info['digest'][:8]} ({name}), "
            f"the baseline {content['digest'][:8]} ({content['config']})"
        )
    if differing := other_data(data_identity(run), content["data"]):
        return f"{run.directory} was trained on other data: {named(differing)}"
    for key in kernel_choice.CHOICES:
        ours, theirs = run.info["fingerprint"].get(key), content["fingerprint"].get(key)
        if ours != theirs:
            return f"{run.directory} has {key} {ours}, the baseline {theirs}"
    return None


def unlike(key: str, one: Measured, baseline: Baseline, turns: bool) -> str | None:
    """Why this metric of this run may not be compared, or None.

    `turns`: the two were measured in turns on one machine, so that it is not asked for.
    """
    protocol = baseline.content["metrics"][key].get("protocol")
    if protocol is not None:
        differing = configs.differences(one.values[key].protocol or {}, protocol)
        return f"another protocol: {named(differing)}" if differing else None
    if key in metrics.MACHINE_METRICS:
        if one.run.stack_changes():
            return f"{one.run.directory} was gone on with on another stack"
        if turns:
            return None
        return other_machine(one.fingerprint, baseline.content["fingerprint"])
    return None


def other_protocol(key: str, one: Measured) -> str | None:
    """Names the protocols by which the run has this figure, if it has it by others only."""
    name = metrics.family(key)
    others = [k.partition("/")[2] for k in one.values if "/" in k and metrics.family(k) == name]
    return f"{one.run.directory} has {name} by {', '.join(others)} only" if others else None

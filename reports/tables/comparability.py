"""Which figures of two runs may be set against each other, and why the others may not.

A run's config is what a benchmark compares; the machine and the data are its
conditions. A ratio is taken only where the conditions that bear on the figure
are equal; otherwise the pair is shown apart, with the reason.
"""

from __future__ import annotations

from typing import Any

from harness import configs
from harness.base import kernel_choice
from reports.reading import figure_protocols
from reports.reading.run_records import Record
from reports.tables.columns import Column, last_figure

# Conditions per group of figures: keys of the fingerprint, then of the config.
_MACHINE = (
    "device", *kernel_choice.CHOICES,
    "env.OMP_NUM_THREADS", "env.MKL_NUM_THREADS", "env.MKL_DEBUG_CPU_TYPE",
)
_CONDITIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "size": ((), ()),
    "speed": ((*_MACHINE, "world_size"), ()),
    "speed_per_device": (_MACHINE, ()),
    "step": ((*_MACHINE, "world_size"), ("train.global_batch_size",)),
    "memory": ((*_MACHINE, "world_size"), ("train.micro_batch_size",)),
    "loss": ((), (
        "data.dataset", "data.condition_drop_prob", "train.global_batch_size",
        "model.sample_size", "model.in_channels", "diffusion.num_train_timesteps",
        "diffusion.beta_start", "diffusion.beta_end", "diffusion.latent_scale",
    )),
    "quality": ((), ()),
}  # fmt: skip


def reasons(one: Record, other: Record, column: Column) -> list[str]:
    """Why `column`'s figures of two runs are not like for like; empty if they are."""
    in_fingerprint, in_config = _CONDITIONS[column.group]
    found = [
        _differ(key.removeprefix("env."), _condition(one, key), _condition(other, key))
        for key in in_fingerprint
    ]
    config, other_config = one.flat_config, other.flat_config
    found += [_differ(key, config.get(key), other_config.get(key)) for key in in_config]
    if column.group == "loss":
        found.append(_differ("steps", one.step, other.step))
        found.append(_differ("training data", *(_data(record) for record in (one, other))))
    if column.group == "quality":
        a, b = last_figure(one, column), last_figure(other, column)
        if a and b:
            found.append(_differ("steps", a.step, b.step))
    return [reason for reason in found if reason]


def _condition(record: Record, key: str) -> Any:
    # The fingerprint leaves the number of devices out where it changes no bit.
    return record.devices if key == "world_size" else record.fingerprint.get(key)


def protocol_reason(one: figure_protocols.Protocol, other: figure_protocols.Protocol) -> str:
    """What differs between two protocols, in words."""
    differing = figure_protocols.differences(one, other)
    return "; ".join(_differ(key, a, b) for key, (a, b) in differing.items())


def data_identity(record: Record) -> dict[str, Any]:
    """What run.json says of the training data, less where it lay."""
    data = record.run.info.get("data")
    return {
        key: value for key, value in configs.flat(data if isinstance(data, dict) else {}).items()
        if key.rpartition(".")[2] not in ("path", "directory", "root")
    }  # fmt: skip


def _data(record: Record) -> str:
    content = data_identity(record)
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(content.items()))


def _differ(what: str, a: Any, b: Any) -> str:
    return "" if a == b else f"{what} {_short(a)} against {_short(b)}"


def _short(value: Any) -> str:
    text = "nothing" if value in (None, "") else str(value)
    # Digests differ at their beginning as well as anywhere.
    return text if len(text) <= 40 else text[:12] + "…" if " " not in text else text[:60] + "…"

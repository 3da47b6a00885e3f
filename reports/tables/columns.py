"""The figures of one run that tables show: how each is taken from its log lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.base import kernel_choice, locked_stacks
from reports.reading import figure_protocols
from reports.reading.run_records import Figure, Record
from reports.tables import flops, gpu_peaks

LOSS_LINES = 10  # the loss of one step is noisy; this many last log lines are averaged


@dataclass(frozen=True)
class Column:
    """A column of the comparison. `key` is its name in CSV and frames."""

    key: str
    heading: str
    kind: str = "number"  # how it is written: see reports.output.number_formats
    better: int = 0  # +1 more, -1 less, 0 neither
    group: str = ""  # what makes two of its values comparable: see reports.tables.comparability
    metric: str = ""  # of a quality column
    protocol: figure_protocols.Protocol | None = None
    note: str = ""


BASE = (
    Column("run", "Run", "text"),
    Column("config", "Config", "text"),
    Column("seed", "Seed", "id"),
    Column("pinned", "Pinned", "flag", note="the shipped config of this name, unchanged"),
    Column("parameters", "Parameters", "count", group="size"),
    Column("gflops_per_image", "GFLOPs / image", "number", group="size",
           note="one forward pass, two operations per multiply-add; training costs three times it"),
    Column("steps", "Steps", "count"),
    Column("full_steps", "of", "count", note="the config's full steps"),
    Column("images_per_second", "Images/s", "number", 1, "speed",
           note="training, all devices; mean over timed steps (no warm-up, evaluation, saving)"),
    Column("images_per_second_per_device", "Images/s/device", "number", 1, "speed_per_device"),
    Column("scaling_efficiency", "Scaling", "share", 1,
           note="images/s/device over that of the 1-device run of the same config and device"),
    Column("step_ms", "ms/step", "number", -1, "step", note="median over steps"),
    Column("step_ms_p95", "p95 ms/step", "number", -1, "step",
           note="the larger of the typical interval's p95 and the p95 of intervals' medians"),
    Column("mfu", "MFU", "share", 1, "speed_per_device",
           note="model FLOPs utilisation: training FLOPs a second over the devices' dense peak"),
    Column("mfu_peak", "MFU peak", "text", note="the peak that MFU is measured against"),
    Column("communication_share", "Communication", "share", -1,
           note="share of step time with other processes; what overlaps computing is not seen"),
    Column("data_wait_share", "Data wait", "share", -1, note="share of step time without data"),
    Column("joules_per_image", "J/image", "number", -1, "speed_per_device",
           note="power of all GPUs by their driver, over images/s"),
    Column("throttled_share", "Throttled", "share", -1,
           note="share of time with clocks held down by heat or power supply, or a quota used up"),
    Column("others_share", "Others", "share", -1,
           note="share of what is computed on that other processes kept: processors' time, or "
           "seconds with one on the GPU"),
    Column("peak_device_bytes", "Device memory", "bytes", -1, "memory", note="peak, one device"),
    Column("peak_host_bytes", "Host memory", "bytes", -1, "memory", note="peak, one process"),
    Column("devices", "Devices", "count"),
    Column("device", "Device", "text"),
    Column("stack", "Stack", "text"),
    Column("kernels", "Kernels", "text",
           note="whose compute the network; static: as a graph (paddle.jit.to_static)"),
    Column("device_hours", "Device-hours", "number", note="in timed training steps"),
    Column("loss", "Loss", "loss", -1, "loss",
           note=f"training loss, mean of the last {LOSS_LINES} log lines"),
)  # fmt: skip


def quality_columns(records: list[Record]) -> list[Column]:
    """One column per metric and protocol: figures of different protocols or N never share one."""
    figures = [figure for record in records for figure in record.figures]
    names = figure_protocols.labels(figure.protocol for figure in figures)
    found = {(f.protocol.digest, f.metric): f for f in figures}
    order = {d: i for i, d in enumerate(sorted(names, key=lambda d: (-_n(found, d), names[d])))}
    columns = []
    for (digest, metric), figure in sorted(found.items(), key=lambda kv: order[kv[0][0]]):
        kind = "share" if metric in figure_protocols.SHARES else "figure"
        kind = "loss" if metric == "val_loss" else kind
        columns.append(Column(
            f"{metric} [{names[digest]}]",
            f"{figure_protocols.heading(metric)} · {names[digest]}", kind,
            figure_protocols.better(metric), "quality", metric, figure.protocol,
        ))  # fmt: skip
    return columns


def _n(found: dict[tuple[str, str], Figure], digest: str) -> int:
    return next(f.protocol.n_samples for (d, _), f in found.items() if d == digest)


def last_figure(record: Record, column: Column) -> Figure | None:
    """The run's latest figure of a quality column."""
    of_kind = [
        f for f in record.figures if f.metric == column.metric and f.protocol == column.protocol
    ]
    return max(of_kind, key=lambda f: f.step) if of_kind else None


def summarise(record: Record) -> dict[str, Any]:
    """Every BASE figure of one run; NaN or None where the run does not have it (yet)."""
    config, model = record.config, record.config["model"]
    each = throughput_per_device(record)
    precision = config["train"].get("precision", "fp32")
    tf32_off = record.fingerprint.get("env.NVIDIA_TF32_OVERRIDE") == "0"
    peak = gpu_peaks.peak(record.device, precision, tf32_off=tf32_off)
    median, p95 = step_times(record)
    hours = record.column("device_hours")
    return {
        "run": record.label,
        "config": config.get("name", ""),
        "seed": record.run.seed,
        "pinned": bool(record.run.info.get("pinned")),
        "parameters": flops.parameters(model),
        "gflops_per_image": flops.forward_flops(model) / 1e9,
        "steps": record.step,
        "full_steps": record.full_steps,
        "images_per_second": throughput(record),
        "images_per_second_per_device": each,
        "scaling_efficiency": np.nan,  # against another run: see `scaling`
        "step_ms": median,
        "step_ms_p95": p95,
        "mfu": flops.mfu(each, 1, model, peak) if peak else np.nan,
        "mfu_peak": f"{peak.flops / 1e12:.4g} TFLOP/s {peak.arithmetic}" if peak else None,
        "communication_share": _mean_over_time(record, "communication_share"),
        "data_wait_share": _mean_over_time(record, "data_wait_share"),
        "joules_per_image": joules_per_image(record),
        "throttled_share": _mean_over_time(record, "throttled_share"),
        "others_share": _mean_over_time(record, "others_share"),
        "peak_device_bytes": _maximum(record, "peak_device_bytes"),
        "peak_host_bytes": _maximum(record, "peak_host_bytes"),
        "devices": record.devices,
        "device": record.device,
        "stack": locked_stacks.label(record.fingerprint),
        "kernels": kernels(record),
        "device_hours": float(hours[-1]) if len(hours) else np.nan,
        "loss": _last_mean(record, "loss", LOSS_LINES),
    }


def throughput(record: Record) -> float:
    """Images per second over all timed steps: intervals weighted by their seconds."""
    return _mean_over_time(record, "images_per_second")


def throughput_per_device(record: Record) -> float:
    """Images of all timed steps over their device-seconds: a run may change its devices' number."""
    images = record.column("images_per_second") * record.column("seconds")
    seconds = 3600.0 * np.diff(record.column("device_hours"), prepend=0.0)
    timed = images > 0
    return float(images[timed].sum() / seconds[timed].sum()) if timed.any() else np.nan


def joules_per_image(record: Record) -> float:
    """Energy of all devices over the images, of the timed lines that tell a power."""
    images = record.column("images_per_second") * record.column("seconds")
    joules = record.column("watts") * record.column("seconds")
    kept = (images > 0) & ~np.isnan(joules)
    return float(joules[kept].sum() / images[kept].sum()) if kept.any() else np.nan


def scaling(records: list[Record]) -> list[float]:
    """Each run's images/s/device over the mean of the 1-device runs of its config and device.

    NaN for those, for runs that went on on another number of devices, and without such a run.
    """
    found = []
    for record in records:
        logged = record.column("devices")
        alone = [
            throughput_per_device(other) for other in records
            if other.devices == 1 and other.device == record.device
            and kernels(other) == kernels(record)
            and other.run.info["digest"] == record.run.info["digest"]
        ]
        steady = len(set(logged[~np.isnan(logged)])) <= 1
        usable = record.devices > 1 and steady and alone
        speed = throughput_per_device(record)
        found.append(speed / float(np.mean(alone)) if usable else np.nan)
    return found


def kernels(record: Record) -> str:
    """`fused`, `paddle` or `paddle, static`."""
    return kernel_choice.label(record.fingerprint)


def step_times(record: Record) -> tuple[float, float]:
    """(median, p95) milliseconds a step; log intervals weighted by their timed steps.

    The log has each interval's own median and p95. The run's p95 is the larger of
    the median interval's p95 (spread within) and the 95th percentile of the
    intervals' medians (spread between).
    """
    weights = record.column("steps_timed")
    medians, p95s = record.column("step_ms"), record.column("step_ms_p95")
    within = _weighted_quantile(p95s, weights, 0.5)
    between = _weighted_quantile(medians, weights, 0.95)
    p95 = float(np.fmax(within, between))
    return _weighted_quantile(medians, weights, 0.5), p95


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """The smallest value at which the weights below and at it reach the share q."""
    kept = ~np.isnan(values) & (weights > 0)
    if not kept.any():
        return np.nan
    order = np.argsort(values[kept], kind="stable")
    reached = np.cumsum(weights[kept][order])
    return float(values[kept][order][np.searchsorted(reached, q * reached[-1])])


def _mean_over_time(record: Record, name: str) -> float:
    values, seconds = record.column(name), record.column("seconds")
    kept = ~np.isnan(values) & (seconds > 0)
    if not kept.any():
        return np.nan
    return float(np.average(values[kept], weights=seconds[kept]))


def _maximum(record: Record, name: str) -> float:
    values = record.column(name)
    return float(np.nanmax(values)) if len(values) and not np.isnan(values).all() else np.nan


def _last_mean(record: Record, name: str, count: int) -> float:
    values = record.column(name)
    values = values[~np.isnan(values)][-count:]
    return float(values.mean()) if len(values) else np.nan

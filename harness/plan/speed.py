"""How long a step and a sample take, as a range, with where each constant comes from."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from eval.protocols import Protocol
from harness import files, runs
from harness.base.errors import DataError, UsageError
from harness.configs import Config
from harness.plan import devices
from harness.plan.devices import Device
from reports.tables import flops, gpu_peaks

Range = tuple[float, float]  # the least and the most

# The authors' README (baofff/U-ViT, 'U-ViT-H/2'): 0.87 steps/s of 128 images on one A100, with
# mixed precision, memory-efficient attention and recomputing. ImageNet 256: one label token.
_PUBLISHED_STEPS, _PUBLISHED_BATCH = 0.87, 128
_PUBLISHED_MODEL = dict(
    sample_size=32, patch_size=2, in_channels=4, num_layers=28, num_attention_heads=16,
    attention_head_dim=72, mlp_ratio=4.0, qkv_bias=False, clip_dim=1152, num_text_tokens=1,
    conv=True,
)
# Operations of the Stable Diffusion VAE's decoder at 256 x 256, layer by layer (311 GMAC), and of
# pytorch-fid's Inception at 299 x 299 (5.7 GMAC).
_DECODE, _INCEPTION = 622e9, 11.4e9
# A float32 step reads weight, gradient, moments and EMA and writes all but the gradient.
_UPDATE_BYTES = 36
# Between machines: one card of 100 to 400 Gbit/s each.
_NETWORK: Range = (12.5e9, 50e9)
_MARGIN = 0.15  # of a rate that was measured: other sizes, other batch sizes


@dataclass(frozen=True)
class Rate:
    """FLOP/s that a device reaches of a U-ViT, and by what it is known."""

    least: float
    most: float
    source: str


def published_share() -> float:
    """The share of an A100's half-precision peak that the authors' own training reached."""
    peak = gpu_peaks.peak("NVIDIA A100", "fp16")
    assert peak
    work = 4 * flops.forward_flops(_PUBLISHED_MODEL)  # forward twice, backward
    return _PUBLISHED_STEPS * _PUBLISHED_BATCH * work / peak.flops


def assumed(device: Device, precision: str) -> Rate:
    """By the peak, and by what the published training reached of one: from half to 1.3 of it."""
    peak, arithmetic = device.peak(precision)
    if device.is_cpu:
        # `make bench` on Intel and AMD: a step ran at 0.7 to 0.8 of MKL's rate, which is 0.9 to 2
        # of what numpy's library reaches.
        said = f"0.5 to 1.6 of {peak / 1e9:,.0f} GFLOP/s ({arithmetic})"
        return Rate(0.5 * peak, 1.6 * peak, said)
    share = published_share()
    return Rate(
        0.5 * share * peak, 1.3 * share * peak,
        f"{0.5 * share:.2f} to {1.3 * share:.2f} of {peak / 1e12:,.0f} TFLOP/s ({arithmetic}); "
        f"U-ViT-H/2 as published reached {share:.2f} of an A100's",
    )


def measured(run: Path, device: Device, precision: str) -> Rate:
    """The rate that `run` reached on one device of its own, scaled by the devices' peaks.

    DataError if it has no timings; UsageError if it ran on what this device cannot be told from.
    """
    found = runs.load(run)
    config = Config.model_validate(found.info["config"])
    name = str(found.info["fingerprint"]["device"])
    steps = [line["step_ms"] * line.get("devices", 1) for line in found.timing()
             if line.get("steps_timed") and files.is_number(line.get("step_ms"))]
    if not steps:
        raise DataError(f"{run} has no timings", remedy="give a run that trained some 20 steps")
    peak = gpu_peaks.peak(name, config.train.precision)
    if device.is_cpu != (peak is None):
        raise UsageError(f"{run} ran on {name}, which says nothing of {device.name}",
                         remedy="give a run on a device of that kind")
    here = next((gpu for gpu in devices.GPUS if gpu.name == name), device)
    rate = reached(config, statistics.median(steps) / 1e3, here)
    if peak is not None:
        rate *= device.peak(precision)[0] / peak.flops
    return Rate((1 - _MARGIN) * rate, (1 + _MARGIN) * rate,
                f"{rate / 1e9:,.0f} GFLOP/s, {run} on {name}, +-{_MARGIN:.0%}")


def reached(config: Config, seconds: float, device: Device) -> float:
    """FLOP/s of a device that alone takes `seconds` for a step; the update counts as memory's."""
    computing = max(seconds - update_seconds(config, device), 0.2 * seconds)
    return config.train.global_batch_size * work(config) / computing


def work(config: Config) -> float:
    """Operations a device does for one image of training, recomputed ones included."""
    forward = flops.forward_flops(config.model.model_dump())
    return forward * (4 if config.train.recompute else 3)


def update_seconds(config: Config, device: Device, devices: int = 1) -> float:
    """Seconds of the optimizer's step: it is as fast as memory is."""
    count = flops.parameters(config.model.model_dump())
    owners = devices if config.train.shard_optimizer else 1
    return _UPDATE_BYTES * count / owners / device.bandwidth


def step_seconds(
    config: Config, rate: Rate, device: Device, *, devices: int = 1, nodes: int = 1
) -> Range:
    """Seconds of one optimizer step on `devices` in all, in `nodes` machines.

    The least has all communication behind computing, the most none of it.
    """
    images = config.train.global_batch_size / devices
    update = update_seconds(config, device, devices)
    least, most = (images * work(config) / one + update for one in (rate.most, rate.least))
    return least, most + communication_seconds(config, device, devices, nodes)


def communication_seconds(config: Config, device: Device, devices: int, nodes: int) -> float:
    """Seconds to sum the gradients at most: a ring moves 2 (n - 1) / n of them past each device.

    Patarasuk & Yuan 2009, 'Bandwidth optimal all-reduce algorithms'. The ring is as fast as its
    slowest link, which between machines is the slower end of the assumed network.
    """
    if devices == 1:
        return 0.0
    size = 4.0 * flops.parameters(config.model.model_dump())
    link = min(device.link, _NETWORK[0]) if nodes > 1 else device.link
    return 2 * (devices - 1) / devices * size / link


def evaluation_seconds(
    config: Config, protocol: Protocol, rate: Rate, *, devices: int = 1
) -> Range:
    """Seconds of one evaluation, its samples shared by `devices`: sampling, decoding, Inception."""
    forward = flops.forward_flops(config.model.model_dump())
    each = 1.0 * forward * protocol.num_inference_steps * (2 if protocol.guidance_scale != 1 else 1)
    if protocol.features == "inception":
        each += _DECODE + _INCEPTION
    whole = protocol.n_samples * each / devices
    return whole / rate.most, whole / rate.least

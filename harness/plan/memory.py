"""What training holds at its peak, by part, from the config alone.

Activations are counted in widths: numbers a token, of the model's width. A block keeps 16 for its
backward pass: the inputs of the two norms and of qkv, projection, fc1 and fc2, with q, k and v and
fc1's output: 1+1+1+1+1+4, 3, 4 (Korthikanti et al. 2022, arXiv:2205.05198, section 4.1, less
dropout). A block with a long skip keeps the two that are joined. H L attention weights a token
are kept by `math` attention on a GPU; on a CPU the fused kernels compute them again.
"""

from __future__ import annotations

from typing import Any

from harness.configs import Config
from reports.tables import flops

# On a GPU what passes through as well: gradients on their way back, in widths, a block's worth.
_PASSING = 16.0
# CUDA's context, cuDNN's and cuBLAS's scratch.
_GPU_WORKSPACE = 1.0e9
# On a CPU the process with its libraries, and what malloc holds and does not use: freed memory is
# kept (`paddle_env`), in pieces. Fitted to the table of docs/planning.md: bytes in all, a byte of
# activations, a parameter.
_PROCESS, _HEAP = 0.42e9, (0.03e9, 0.16, 1.3)


def parts(
    config: Config, micro_batch: int, *, devices: int = 1, on_cpu: bool = False
) -> dict[str, float]:
    """Bytes by part on each of `devices`, for `micro_batch` samples at a time."""
    train = config.train
    count = float(flops.parameters(config.model.model_dump()))
    half = train.precision != "fp32"
    pure = half and train.amp_level == "O2"
    owned = count / (devices if train.shard_optimizer else 1)
    # O2 keeps weights and gradients in half precision, and a float32 copy of the weights.
    found = {
        "weights": count * (2 if pure else 4) + (4 * owned if pure else 0),
        "gradients": count * (2 if pure else 4) * _gradient_copies(config, devices),
        "moments": 8 * owned,
        "ema": 4 * owned,
        "activations": micro_batch * activations(config, on_cpu=on_cpu),
    }
    if half and not pure:
        found["weights"] += 2 * count  # O1's half-precision copies, kept within a step
    if on_cpu:
        heap = _HEAP[0] + _HEAP[1] * found["activations"] + _HEAP[2] * count
        return {**found, "heap": heap, "process": _PROCESS}
    return {**found, "workspace": _GPU_WORKSPACE}


def activations(config: Config, *, on_cpu: bool) -> float:
    """Bytes a sample at the end of the forward pass."""
    model, train = config.model.model_dump(), config.train
    shape = flops.shape(model)
    width = shape.tokens * shape.width
    kept = (8 + 2 * shape.hidden / shape.width) * width
    if not on_cpu and train.attention == "math":
        kept += 2 * model["num_attention_heads"] * shape.tokens**2
    joined = 2 * width
    if train.recompute:
        numbers = (shape.blocks + shape.skips) * width + kept + joined
    else:
        numbers = shape.blocks * kept + shape.skips * joined
    size = 2 if train.precision != "fp32" else 4
    return size * (numbers if on_cpu else numbers + _PASSING * width)


def _gradient_copies(config: Config, devices: int) -> float:
    """How many gradients a device holds at once: partial sums wait for their partners."""
    train = config.train
    if train.reduction != "fixed-order":
        return 1
    return 1 + max(1, (train.shards // devices).bit_length())


def of_run(config: Config) -> int:
    """Bytes of one checkpoint: weights, EMA and both moments, float32."""
    return 16 * flops.parameters(config.model.model_dump())


def total(found: dict[str, Any]) -> float:
    """The sum of `parts`."""
    return float(sum(found.values()))

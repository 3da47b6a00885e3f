"""Parameters and floating-point operations of a U-ViT, by arithmetic from its config.

Counted: matrix products and convolutions, two operations per multiply-add.
Left out, as is usual: normalisation, softmax, GELU, additions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The sizes everything follows from: width D, blocks, skips, tokens L."""

    width: int
    hidden: int
    blocks: int
    skips: int
    patches: int
    tokens: int
    patch_values: int  # numbers in one patch: in_channels * patch_size ** 2


def shape(model: dict[str, Any]) -> Shape:
    """Sizes of the `model` section: depth//2 blocks in, one in the middle, depth//2 out.

    Tokens are one for the timestep, the text's, and the image's patches
    (Bao et al. 2023, official code libs/uvit_t2i.py).
    """
    width = model["num_attention_heads"] * model["attention_head_dim"]
    half = model["num_layers"] // 2
    patches = (model["sample_size"] // model["patch_size"]) ** 2
    return Shape(
        width=width,
        hidden=int(width * model["mlp_ratio"]),
        blocks=2 * half + 1,
        skips=half,
        patches=patches,
        tokens=1 + model["num_text_tokens"] + patches,
        patch_values=model["in_channels"] * model["patch_size"] ** 2,
    )


def parameters(model: dict[str, Any]) -> int:
    """Number of trained parameters."""
    s, d = shape(model), shape(model).width
    norm, qkv = 2 * d, 3 * d * d + (3 * d if model["qkv_bias"] else 0)
    block = 2 * norm + qkv + (d * d + d) + (2 * d * s.hidden + s.hidden + d)
    ends = (s.patch_values * d + d) + (model["clip_dim"] * d + d) + s.tokens * d
    ends += norm + (d * s.patch_values + s.patch_values)
    if model["conv"]:
        ends += 9 * model["in_channels"] ** 2 + model["in_channels"]
    return s.blocks * block + s.skips * (2 * d * d + d) + ends


def forward_flops(model: dict[str, Any]) -> int:
    """Operations of one forward pass for one image."""
    s, d = shape(model), shape(model).width
    linear = s.tokens * (4 * d * d + 2 * d * s.hidden)  # qkv, projection, MLP
    attention = 2 * s.tokens**2 * d  # scores, and their product with the values
    # Patches in and out; the output projection is needed for the patches' tokens alone.
    ends = 2 * s.patches * s.patch_values * d + model["num_text_tokens"] * model["clip_dim"] * d
    if model["conv"]:
        ends += model["sample_size"] ** 2 * 9 * model["in_channels"] ** 2
    return 2 * (s.blocks * (linear + attention) + s.skips * s.tokens * 2 * d * d + ends)


def training_flops(model: dict[str, Any]) -> int:
    """Operations of training on one image: forward, and twice that backward.

    Recomputed activations do not count (model FLOPs, Chowdhery et al. 2022,
    'PaLM', appendix B).
    """
    return 3 * forward_flops(model)


# Dense peaks in TFLOP/s from NVIDIA's data sheets: half precision on tensor cores,
# TF32, plain fp32. Form factor matters (SXM / PCIe), so it is part of the pattern.
_PEAKS = (
    (r"H200", 989.4, 494.7, 66.9),
    # H100 data sheet: 1,671 / 835 with sparsity, twice what is counted here
    (r"H100.*NVL", 835.5, 417.5, 60.0),
    (r"H100.*PCIe", 756.0, 378.0, 51.0),
    (r"H100", 989.4, 494.7, 66.9),
    (r"A100", 312.0, 156.0, 19.5),
    (r"A800", 312.0, 156.0, 19.5),
    (r"A40\b", 149.7, 74.8, 37.4),
    (r"A30\b", 165.0, 82.0, 10.3),
    (r"A10\b", 125.0, 62.5, 31.2),
    (r"L40S", 362.0, 183.0, 91.6),
    (r"L4\b", 121.0, 60.0, 30.3),
    (r"V100.*PCI", 112.0, None, 14.0),
    (r"V100", 125.0, None, 15.7),
    (r"T4\b", 65.0, None, 8.1),
)


@dataclass(frozen=True)
class Peak:
    """What a device can do at most, operations a second, and in which arithmetic."""

    flops: float
    arithmetic: str


def peak(device: str, precision: str, *, tf32_off: bool = False) -> Peak | None:
    """The device's dense peak for training in `precision` (fp32, fp16, bf16), or None.

    fp32 training on Ampere and later is measured against the TF32 peak: paddle 2.6
    lets cuBLAS use TF32 by default (its pull request 30612). The arithmetic is
    named with the figure. `tf32_off`: NVIDIA_TF32_OVERRIDE=0 was set.
    A device that is not in the table, or cannot do it (bf16 on Volta), gives None.
    """
    for pattern, half, tf32, fp32 in _PEAKS:
        if re.search(pattern, device):
            if precision == "fp16" or (precision == "bf16" and tf32):
                return Peak(half * 1e12, precision)
            if precision == "fp32":
                uses_tf32 = tf32 and not tf32_off
                return Peak(tf32 * 1e12, "tf32") if uses_tf32 else Peak(fp32 * 1e12, "fp32")
            return None
    return None


def mfu(images_per_second: float, devices: int, model: dict[str, Any], peak: Peak) -> float:
    """Model FLOPs utilisation, a share of 1."""
    return images_per_second * training_flops(model) / (devices * peak.flops)

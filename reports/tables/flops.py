"""Parameters and floating-point operations of a U-ViT, by arithmetic from its config.

Counted: matrix products and convolutions, two operations per multiply-add.
Left out, as is usual: normalisation, softmax, GELU, additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.tables.gpu_peaks import Peak


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


def mfu(images_per_second: float, devices: int, model: dict[str, Any], peak: Peak) -> float:
    """Model FLOPs utilisation, a share of 1."""
    return images_per_second * training_flops(model) / (devices * peak.flops)

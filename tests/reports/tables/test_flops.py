"""Arithmetic from configs, held against published counts and a count taken layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from harness import configs
from reports.tables import flops, gpu_peaks


@pytest.mark.parametrize(
    ("name", "expected"),
    [("small", 44_692_644), ("small_deep", 58_345_636), ("mid", 130_772_132),
     ("large", 286_603_428), ("huge", 500_652_452)],
)  # fmt: skip
def test_parameters_are_the_official_codes(name, expected):
    assert flops.parameters(configs.resolved(configs.load(name))["model"]) == expected


def test_forward_flops_against_the_weights_of_a_real_model():
    """Every weight matrix times the tokens it is applied to, and attention by its definition."""
    from models.uvit import UViT

    model = dict(
        sample_size=8, patch_size=2, in_channels=4, num_layers=4, num_attention_heads=2,
        attention_head_dim=16, mlp_ratio=2.0, qkv_bias=True, clip_dim=24, num_text_tokens=5,
        conv=True,
    )  # fmt: skip
    network = UViT(**model)
    text, patches, pixels = 5, 16, 64
    applied_to = {
        "context_embed": text, "patch_embed": patches, "decoder_pred": patches,
        "final_layer": pixels,
    }  # fmt: skip
    macs = 0
    for name, parameter in network.named_parameters():
        if name.endswith(".weight") and len(parameter.shape) > 1:
            tokens = applied_to.get(name.split(".")[0], 1 + text + patches)
            macs += tokens * int(np.prod(parameter.shape))
    blocks, width = 5, 32
    macs += blocks * 2 * (1 + text + patches) ** 2 * width  # q k', and its product with v
    assert flops.forward_flops(model) == 2 * macs
    assert flops.parameters(model) == sum(int(np.prod(p.shape)) for p in network.parameters())


def test_peaks_by_device_and_arithmetic():
    assert gpu_peaks.peak("NVIDIA A100-SXM4-80GB", "bf16") == gpu_peaks.Peak(312e12, "bf16")
    assert gpu_peaks.peak("NVIDIA A100-SXM4-80GB", "fp32") == gpu_peaks.Peak(156e12, "tf32")
    peak = gpu_peaks.peak("NVIDIA A100-PCIE-40GB", "fp32", tf32_off=True)
    assert peak == gpu_peaks.Peak(19.5e12, "fp32")
    assert gpu_peaks.peak("Tesla V100-SXM2-32GB", "fp16") == gpu_peaks.Peak(125e12, "fp16")
    assert gpu_peaks.peak("Tesla V100-SXM2-32GB", "bf16") is None
    assert gpu_peaks.peak("NVIDIA H100 PCIe", "bf16").flops == 756e12
    assert gpu_peaks.peak("NVIDIA H100 NVL", "bf16").flops == 835.5e12
    assert gpu_peaks.peak("NVIDIA A100-SXM4-80GB", "int8") is None
    assert gpu_peaks.peak("Fabricated CPU @ 2 GHz", "fp32") is None


def test_mfu_of_a_device_at_its_peak_is_one():
    model = configs.resolved(configs.load("small"))["model"]
    rate = 312e12 / flops.training_flops(model)
    assert flops.mfu(2 * rate, 2, model, gpu_peaks.Peak(312e12, "bf16")) == pytest.approx(1.0)

"""Peak rates of devices, which MFU is measured against."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Dense peaks in TFLOP/s from NVIDIA's data sheets: half precision on tensor cores,
# TF32, plain fp32. Form factor matters (SXM / PCIe), so it is part of the pattern. GeForce cards:
# half precision summed in fp32, which is half of what is advertised (architecture white papers).
_PEAKS = (
    (r"B200", 2250.0, 1125.0, 75.0),
    (r"RTX 5090", 209.5, 104.8, 104.8),
    (r"RTX 4090", 165.2, 82.6, 82.6),
    (r"RTX 3090\b(?! Ti)", 71.0, 35.6, 35.6),
    (r"H200", 989.4, 494.7, 66.9),
    # As NVIDIA's figures are commonly quoted (not read at the source): 1,671 / 835 with
    # sparsity, twice what is counted here
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
                if tf32 and not tf32_off:
                    return Peak(tf32 * 1e12, "tf32")
                return Peak(fp32 * 1e12, "fp32")
            return None
    return None

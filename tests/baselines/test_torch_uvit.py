"""The PyTorch peer on its own terms, in a process of its own."""

import os
import subprocess
import sys

import pytest

from baselines.torch_peer import ROOT

SIZES = [(8, 512, 12, 44_692_644), (8, 512, 16, 58_345_636), (12, 768, 16, 130_772_132)]


def torch_says(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )
    return done.stdout.strip()


def test_parameter_counts_are_those_of_the_authors_code():
    code = f"""
import torch
from baselines.torch_uvit import TorchUViT
for heads, dim, layers, _ in {SIZES}:
    with torch.device("meta"):
        model = TorchUViT(num_layers=layers, num_attention_heads=heads,
                          attention_head_dim=dim // heads)
    print(sum(p.numel() for p in model.parameters()))
"""
    assert torch_says(code).split() == [str(count) for *_, count in SIZES]


@pytest.mark.parametrize("module", ["baselines.torch_uvit", "models.uvit"])
def test_torch_and_paddle_never_share_a_process(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'paddle'}} & set(sys.modules)))"
    assert torch_says(code) in ("['torch']", "['paddle']")

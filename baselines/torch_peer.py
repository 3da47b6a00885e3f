"""The PyTorch U-ViT's answers, from a process of its own: torch and paddle never share one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from harness.base.errors import EnvironmentFault
from harness.distributed import child_commands

ROOT = Path(__file__).parents[1]

# Small, with every part: two skips, a text of more than one token, a head narrower than dim.
TINY: dict[str, Any] = dict(
    sample_size=8, patch_size=2, in_channels=4, num_layers=4, num_attention_heads=2,
    attention_head_dim=16, mlp_ratio=4.0, qkv_bias=False, clip_dim=12, num_text_tokens=5, conv=True,
)


def batch(section: dict, size: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs for a model of these arguments: x, timesteps, context, target."""
    random = np.random.default_rng(seed)
    side = section["sample_size"]
    shape = (size, section["in_channels"], side, side)
    text = (size, section["num_text_tokens"], section["clip_dim"])
    return {
        "x": random.standard_normal(shape, dtype=np.float32),
        "timesteps": random.integers(1, 1001, size),
        "context": random.standard_normal(text, dtype=np.float32),
        "target": random.standard_normal(shape, dtype=np.float32),
    }


def lively_weights(model, seed: int = 1) -> dict[str, np.ndarray]:
    """Official name -> array, of the model's shapes, large enough for every part to matter.

    Freshly drawn weights (std 0.02, biases zero) would hide a forgotten bias or LayerNorm weight.
    """
    from models import weights

    random = np.random.default_rng(seed)
    return {
        name: (random.standard_normal(a.shape) * 0.15 + (a.ndim == 1)).astype(np.float32)
        for name, a in weights.to_official(model).items()
    }


def run(folder: Path, section: dict, weights: dict, inputs: dict, **more) -> dict:
    """What `baselines.torch_uvit` makes of these: sample, loss, grad/NAME, and losses.

    EnvironmentFault if PyTorch cannot.
    """
    source, target = folder / "in.npz", folder / "out.npz"
    arrays = {f"weight/{name}": array for name, array in weights.items()}
    np.savez(source, model=np.array(json.dumps(section)), **arrays, **inputs, **more)
    done = child_commands.run(
        [sys.executable, "-m", "baselines.torch_uvit", str(source), str(target)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise EnvironmentFault(f"PyTorch's U-ViT failed: {done.stderr.strip()[-300:]}")
    with np.load(target) as file:
        return dict(file)

"""Weight files as other programs write them: torch in a process of its own, paddle here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

_SAVE = """
import sys
import numpy as np, torch
folder = sys.argv[1]
arrays = {n: torch.from_numpy(a.copy()) for n, a in np.load(folder + "/in.npz").items()}
net = torch.nn.Module()  # gives the OrderedDict with _metadata that a real state dict is
for name, a in arrays.items():
    at = net
    *path, leaf = name.split(".")
    for part in path:
        if part not in at._modules:
            at.add_module(part, torch.nn.Module())
        at = at._modules[part]
    at.register_parameter(leaf, torch.nn.Parameter(a))
torch.save(net.state_dict(), folder + "/nnet_ema.pth")
torch.save({n: a.half() for n, a in arrays.items()}, folder + "/half.pth")
torch.save({n: a.bfloat16() for n, a in arrays.items()}, folder + "/bf16.pth")
torch.save({n: p for n, p in net.named_parameters()}, folder + "/parameters.pth")
# one storage under all of them, and a transposed view
flat = torch.cat([a.reshape(-1) for a in arrays.values()])
views, at = {}, 0
for n, a in arrays.items():
    views[n] = flat[at : at + a.numel()].view(a.shape)
    at += a.numel()
torch.save(views, folder + "/views.pth")
torch.save({n: a.T.contiguous().T if a.ndim == 2 else a for n, a in arrays.items()},
           folder + "/strided.pth")
torch.save({"epoch": 3, "model": arrays}, folder + "/nested.pth")
torch.save(net.state_dict(), folder + "/old.pth", _use_new_zipfile_serialization=False)
"""


def torch_saves(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Save `arrays` by torch.save in several ways; returns `folder`, which then holds them."""
    np.savez(folder / "in.npz", **arrays)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", _SAVE, str(folder)], check=True, env=environment)
    return folder


def paddlemix(model, *, ema: bool, dtype: str = "float32", affine: bool = False) -> dict:
    """A PaddleMIX trainer's state dict of `model`: name -> paddle tensor.

    `affine`: with the LayerNorms' weights and biases, which that trainer does not have.
    """
    import paddle

    state = {"alphas_cumprod": paddle.ones([1000])}
    state["vae.post_quant_conv.weight"] = paddle.ones([4, 4, 1, 1])
    state["text_encoder.text_model.embeddings.position_ids"] = paddle.arange(5).unsqueeze(0)
    for name, parameter in model.named_parameters():
        if not affine and "norm" in name:
            continue
        state[f"unet.{name}"] = parameter.detach().astype(dtype)
        if ema:
            shadow = (parameter.detach() * 0.5).astype("float32")
            state[f"model_ema.{name.replace('.', '')}"] = shadow
    return state

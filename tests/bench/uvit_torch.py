"""The PyTorch U-ViT of `baselines.torch_uvit` in a worker."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch

from baselines import torch_uvit
from tests.bench import inputs


class UViT:
    """A model of section `model` with the weights and batches of `folder`."""

    def __init__(self, folder: str, model: dict, optim: dict, device: str = "cpu",
                 backend: str | None = None):
        """`backend`: what torch.compile makes of the network; None leaves it as it is."""
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.folder, self.device = Path(folder), torch.device(device)
        network = torch_uvit.TorchUViT(**model)
        with np.load(self.folder / "official.npz") as file:
            torch_uvit.load_weights(network, dict(file))
        if backend is not None:
            network.compile(backend=backend)
        self.optim = optim
        self.training = torch_uvit.Training(network.to(self.device), **{
            key: optim[key] for key in ("beta1", "beta2", "eps", "weight_decay")
        })
        self.batches = inputs.read(self.folder)
        self.steps = 0

    def step(self) -> dict[str, float]:
        """Train one step, EMA included; {"seconds", "loss"}."""
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        lr = self.optim["lr"] * min(1.0, self.steps / self.optim["warmup_steps"])
        began = time.perf_counter()
        loss = self.training.step(
            *(torch.from_numpy(batch[key]).to(self.device) for key in inputs.KEYS), lr=lr
        )
        self._finish()
        return {"seconds": time.perf_counter() - began, "loss": loss}

    def sample(self, images: int, steps: int, guidance_scale: float) -> dict[str, object]:
        """DDIM with guidance; {"seconds", "latents"}."""
        contexts, empty = inputs.context(self.folder, images)
        x = torch.from_numpy(inputs.initial_noise(self.folder, images)).to(self.device)
        began = time.perf_counter()
        found = torch_uvit.ddim(
            self.training.model, x, torch.from_numpy(contexts).to(self.device),
            torch.from_numpy(empty).to(self.device), steps=steps, guidance_scale=guidance_scale,
        ).cpu().numpy()
        return {"seconds": time.perf_counter() - began, "latents": found.ravel().tolist()}

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

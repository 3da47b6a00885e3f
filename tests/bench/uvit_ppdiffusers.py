"""ppdiffusers' UViTT2IModel in a worker, trained as PaddleMIX's example does, paddle as it comes.

paddle.optimizer.AdamW over all parameters with the example's values, LitEma after each step, no
clipping, no flag set; neither recompute nor half precision, which the example's script turns on.
https://github.com/PaddlePaddle/PaddleMIX, ppdiffusers/examples/text_to_image_mscoco_uvit.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from ppdiffusers import DDIMScheduler, UViTT2IModel
from ppdiffusers.models.ema import LitEma

from tests.bench import inputs


class UViT:
    """A model of section `model` with the weights and batches of `folder`."""

    def __init__(self, folder: str, model: dict, optim: dict):
        self.folder = Path(folder)
        self.model = UViTT2IModel(**model, out_channels=model["in_channels"])
        with np.load(self.folder / "paddle.npz") as file:
            missing, unexpected = self.model.set_state_dict(dict(file))
        if missing or unexpected:
            raise ValueError(f"weights do not fit: {json.dumps([missing, unexpected])}")
        self.ema = LitEma(self.model, 0.9999)
        warmup = optim["warmup_steps"]
        rate = paddle.optimizer.lr.LambdaDecay(optim["lr"], lambda n: min(1.0, (n + 1) / warmup))
        self.optimizer = paddle.optimizer.AdamW(
            rate, optim["beta1"], optim["beta2"], optim["eps"],
            parameters=self.model.parameters(), weight_decay=optim["weight_decay"],
        )
        self.rate = rate
        self.batches = inputs.read(self.folder)
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
        self.alphas_cumprod = np.append(1.0, np.cumprod(1.0 - betas))
        self.steps = 0

    def step(self) -> dict[str, float]:
        """Train one step, EMA included; {"seconds", "loss"}."""
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        self.model.train()
        began = time.perf_counter()
        latents, noise, context = map(
            paddle.to_tensor, (batch["latents"], batch["noise"], batch["context"])
        )
        alpha = self.alphas_cumprod[batch["timesteps"]].reshape(-1, 1, 1, 1)
        signal, sigma = (paddle.to_tensor(a**0.5).cast("float32") for a in (alpha, 1.0 - alpha))
        noisy = signal * latents + sigma * noise
        predicted = self.model(noisy, paddle.to_tensor(batch["timesteps"]), context).sample
        loss = F.mse_loss(predicted, noise, reduction="none").mean([1, 2, 3]).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.rate.step()
        self.ema(self.model)
        value = float(loss)
        if paddle.device.get_device().startswith("gpu"):
            paddle.device.synchronize()
        return {"seconds": time.perf_counter() - began, "loss": value}

    def sample(self, images: int, steps: int, guidance_scale: float) -> dict[str, object]:
        """The denoising loop of its latent diffusion pipelines; {"seconds", "latents"}."""
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        )
        contexts, empty = inputs.context(self.folder, images)
        both = np.concatenate([np.broadcast_to(empty, contexts.shape), contexts])
        latents = paddle.to_tensor(inputs.initial_noise(self.folder, images))
        self.model.eval()
        began = time.perf_counter()
        with paddle.no_grad():
            context = paddle.to_tensor(both)
            scheduler.set_timesteps(steps)
            for t in scheduler.timesteps:
                doubled = scheduler.scale_model_input(paddle.concat([latents] * 2), t)
                uncond, cond = self.model(doubled, t, context).sample.chunk(2)
                noise = uncond + guidance_scale * (cond - uncond)
                latents = scheduler.step(noise, t, latents).prev_sample
            found = latents.numpy()
        return {"seconds": time.perf_counter() - began, "latents": found.ravel().tolist()}

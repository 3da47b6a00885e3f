"""A plain PyTorch U-ViT for text to image, written from the paper (Bao et al. 2023).

It is what our paddle model is compared with: the same numbers from the same weights, and a speed
that one would expect. Its parameters are named as in the authors' code (baofff/U-ViT). PyTorch and
paddle never share a process: run it as `python -m baselines.torch_uvit IN.npz OUT.npz`.

IN.npz holds `model` (the model's keyword arguments as JSON), `x` [B, C, H, W] noisy latents,
`timesteps` [B], `context` [B, T, clip_dim], `target` [B, C, H, W], and the weights as
`weight/NAME`. OUT.npz gets `sample`, `loss` (mean squared error to the target) and `grad/NAME`;
with `steps` in IN.npz (a number), `losses` and `seconds` [steps] of as many AdamW steps on that
batch, on the `device` that is named there.
With `lr` [n] in IN.npz it is trained instead, for n steps at those rates, on batches that it finds
under `latents`, `noise`, `timesteps` and `context` ([n, B, ...]), and OUT.npz gets their `losses`
and the weights' average as `ema/NAME`.
"""

from __future__ import annotations

import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Multi-head self-attention; qkv's outputs are laid out (3, heads, head dim)."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, length, dim = x.shape
        qkv = self.qkv(x).view(b, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(out.transpose(1, 2).reshape(b, length, dim))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, qkv_bias, skip=False):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.skip_linear = nn.Linear(2 * dim, dim) if skip else None

    def forward(self, x, skip=None):
        if self.skip_linear is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class TorchUViT(nn.Module):
    """Takes the same arguments as `models.uvit.UViT` (the config's section `model`)."""

    def __init__(
        self, sample_size=32, patch_size=2, in_channels=4, num_layers=12, num_attention_heads=8,
        attention_head_dim=64, mlp_ratio=4.0, qkv_bias=False, clip_dim=768, num_text_tokens=77,
        conv=True,
    ):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self.dim, self.patch_size = dim, patch_size
        self.extras = 1 + num_text_tokens
        shape = (dim, num_attention_heads, mlp_ratio, qkv_bias)
        half = num_layers // 2
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size)
        self.context_embed = nn.Linear(clip_dim, dim)
        tokens = self.extras + (sample_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.in_blocks = nn.ModuleList(Block(*shape) for _ in range(half))
        self.mid_block = Block(*shape)
        self.out_blocks = nn.ModuleList(Block(*shape, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(dim)
        self.decoder_pred = nn.Linear(dim, patch_size**2 * in_channels)
        self.final_layer = (
            nn.Conv2d(in_channels, in_channels, 3, padding=1) if conv else nn.Identity()
        )

    def forward(self, x, timesteps, context):
        """Noisy latents [B, C, H, W], timesteps [B], context [B, T, clip_dim] -> noise."""
        _, channels, height, width = x.shape
        time_token = timestep_embedding(timesteps, self.dim)[:, None]
        x = torch.cat([time_token, self.context_embed(context), self.patch_embed(x)], dim=1)
        x = x + self.pos_embed
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        x = self.decoder_pred(self.norm(x))[:, self.extras :]
        p = self.patch_size
        x = x.reshape(-1, height // p, width // p, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return self.final_layer(x.reshape(-1, channels, height, width))


def timestep_embedding(timesteps, dim: int, max_period: float = 10_000.0):
    """Cosines, then sines, of the timestep at geometrically spaced frequencies: [B, dim]."""
    half = dim // 2
    exponents = -math.log(max_period) * torch.arange(half, dtype=torch.float32) / half
    angles = timesteps[:, None].float() * torch.exp(exponents)[None]
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


def load_weights(model: nn.Module, arrays) -> None:
    """Official name -> numpy array, all of them and no other."""
    model.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})


def alphas_cumprod() -> torch.Tensor:
    """The signal's share of the variance at step n in 0..1000 (at 0 all of it), float64 [1001]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas, 0)])


class Training:
    """AdamW and an average of the weights; optimizer and average in few fused passes."""

    def __init__(self, model, *, beta1=0.9, beta2=0.9, eps=1e-8, weight_decay=0.03, decay=0.9999):
        self.model = model.train()
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, 1.0, (beta1, beta2), eps, weight_decay, fused=True
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.decay = decay
        self.alphas_cumprod = alphas_cumprod().to(self.parameters[0].device)

    def step(self, latents, noise, timesteps, context, *, lr: float) -> float:
        """One optimizer step; the loss before it."""
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt().float() * latents + (1.0 - alpha).sqrt().float() * noise
        loss = F.mse_loss(self.model(noisy, timesteps, context), noise)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1.0 - self.decay)
        return loss.item()


@torch.inference_mode()
def ddim(model, x, contexts, empty, *, steps: int, guidance_scale: float):
    """DDIM with guidance from noise `x` [B, C, H, W]; contexts [B, T, D], empty [T, D]."""
    model.eval()
    alphas = alphas_cumprod().tolist()
    both = torch.cat([contexts, empty.expand_as(contexts)])
    ratio = 1000 // steps
    for i in reversed(range(steps)):
        n = i * ratio + 2  # index i * ratio + 1 counted from 0, and the network counts from 1
        timesteps = torch.full((2 * len(x),), n, device=x.device)
        cond, uncond = model(torch.cat([x, x]), timesteps, both).chunk(2)
        noise = uncond + guidance_scale * (cond - uncond)
        here, there = alphas[n], alphas[max(n - ratio, 1)]
        scale = math.sqrt(there / here)
        x = scale * x + (math.sqrt(1.0 - there) - scale * math.sqrt(1.0 - here)) * noise
    model.train()
    return x


def train(model: nn.Module, given: dict, decay: float) -> dict:
    """Losses and averaged weights of training on the batches that were given."""
    training = Training(model, decay=decay)
    losses = []
    for i, lr in enumerate(given["lr"].tolist()):
        batch = (given[k][i] for k in ("latents", "noise", "timesteps", "context"))
        losses.append(training.step(*map(torch.from_numpy, batch), lr=lr))
    names = (name for name, _ in model.named_parameters())
    average = {f"ema/{n}": a.numpy() for n, a in zip(names, training.average, strict=True)}
    return {"losses": np.array(losses, dtype=np.float64), **average}


def main(source: str, target: str) -> None:
    with np.load(source) as file:
        given = dict(file)
    torch.set_num_threads(int(given.get("threads", 1)))
    model = TorchUViT(**json.loads(str(given["model"])))
    prefix = "weight/"
    load_weights(model, {k[len(prefix):]: v for k, v in given.items() if k.startswith(prefix)})
    if "lr" in given:
        np.savez(target, **train(model, given, float(given["decay"])))
        return
    x, timesteps, context, wanted = (
        torch.from_numpy(given[key]) for key in ("x", "timesteps", "context", "target")
    )
    sample = model(x, timesteps, context)
    loss = F.mse_loss(sample, wanted)
    loss.backward()
    out = {"sample": sample.detach().numpy(), "loss": np.float32(loss.item())}
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    out.update({f"grad/{name}": grad.numpy().copy() for name, grad in gradients.items()})
    if "steps" in given:
        # lr, betas and weight decay of the U-ViT authors' COCO configuration
        device = str(given.get("device", "cpu"))
        model.to(device)
        x, timesteps, context, wanted = (t.to(device) for t in (x, timesteps, context, wanted))
        optimizer = torch.optim.AdamW(model.parameters(), 2e-4, (0.9, 0.9), 1e-8, 0.03)
        losses, seconds = [], []
        for _ in range(int(given["steps"])):
            began = time.perf_counter()
            optimizer.zero_grad()
            loss = F.mse_loss(model(x, timesteps, context), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())  # waits for the device
            seconds.append(time.perf_counter() - began)
        out["losses"], out["seconds"] = (np.array(one, np.float64) for one in (losses, seconds))
    np.savez(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])

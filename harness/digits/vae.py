"""Train the digits' autoencoder, in torch (`python -m harness.digits.make_assets vae`).

Torch because paddle's CPU convolutions are several times slower backwards; the
classes below mirror ppdiffusers' AutoencoderKL (its names, its arithmetic), and
`export` writes the folder that ppdiffusers reads. Nothing but the command that
makes the assets imports this module, and never together with paddle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from harness import files
from harness.base import seeds

CHANNELS = (8, 8, 32, 48)  # at 64, 32, 16 and 8 pixels: thin where there are many
# One value for each of the 8x8 pixels that the scans had before they were enlarged: all
# there is to know. With four free channels (560 nats a digit) a U-ViT of a million
# parameters needed 1,000 steps to draw a first digit; with this one it needs 500.
LATENT_CHANNELS = 1
GROUPS = 4
EPSILON = 1e-6

STEPS = 350
BATCH = 16
LEARNING_RATE = 4e-3
WARMUP = 50
# Weight of KL(q(z|x) || N(0, 1)) summed over an image's latents, against the mean
# squared error of a pixel. Larger, and whole latent channels die into noise.
KL_WEIGHT = 3e-6
# Ties the latents' mean to the image's 8x8 thumbnail, of mean 0 and standard deviation 1
# over the data: a smooth code that a small model can learn, and training that settles fast.
THUMBNAIL_WEIGHT = 1e-1
THUMBNAIL_MEAN, THUMBNAIL_STD = 0.38, 0.66


class Resnet(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs, EPSILON)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, EPSILON)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + hidden


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        scores = self.to_q(tokens) @ self.to_k(tokens).transpose(1, 2) * x.shape[1] ** -0.5
        mixed = self.to_out[0](torch.softmax(scores, -1) @ self.to_v(tokens))
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels)])
        self.resnets = nn.ModuleList([Resnet(channels, channels) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Resample(nn.Module):
    """The convolution after nearest-neighbour doubling, or with stride 2."""

    def __init__(self, channels: int, *, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=int(up))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.up:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, up: bool, last: bool):
        super().__init__()
        widths = [(inputs, outputs)] + [(outputs, outputs)] * int(up)
        self.resnets = nn.ModuleList([Resnet(*width) for width in widths])
        self.resample = None if last else ("upsamplers" if up else "downsamplers")
        if self.resample:
            setattr(self, self.resample, nn.ModuleList([Resample(outputs, up=up)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return getattr(self, self.resample)[0](x) if self.resample else x


def levels(channels: tuple[int, ...], *, up: bool) -> nn.ModuleList:
    pairs = zip((channels[0], *channels), channels, strict=False)
    last = len(channels) - 1
    return nn.ModuleList([Level(*pair, up=up, last=k == last) for k, pair in enumerate(pairs)])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, CHANNELS[0], 3, padding=1)
        self.down_blocks = levels(CHANNELS, up=False)
        self.mid_block = Middle(CHANNELS[-1])
        self.conv_norm_out = nn.GroupNorm(GROUPS, CHANNELS[-1], EPSILON)
        self.conv_out = nn.Conv2d(CHANNELS[-1], 2 * LATENT_CHANNELS, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, CHANNELS[-1], 3, padding=1)
        self.mid_block = Middle(CHANNELS[-1])
        self.up_blocks = levels(CHANNELS[::-1], up=True)
        self.conv_norm_out = nn.GroupNorm(GROUPS, CHANNELS[0], EPSILON)
        self.conv_out = nn.Conv2d(CHANNELS[0], 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.quant_conv = nn.Conv2d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.post_quant_conv = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, logvar = self.quant_conv(self.encoder(images)).chunk(2, 1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


def distort(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Turn, shear, scale and shift six images in ten, so that the code does not learn by heart.

    `images` float32 [B,1,64,64] in [-1,1], paper at +1.
    """
    count = len(images)
    turn, shear = rng.uniform(-0.2, 0.2, (2, count))
    zoom = rng.uniform(0.9, 1.15, count)
    shift = rng.uniform(-0.12, 0.12, (2, count))
    maps = np.array(
        [[zoom * np.cos(turn), shear - zoom * np.sin(turn), shift[0]],
         [zoom * np.sin(turn), zoom * np.cos(turn), shift[1]]]
    ).transpose(2, 0, 1)
    maps[rng.random(count) < 0.4] = np.eye(3)[:2]
    grid = F.affine_grid(torch.from_numpy(maps).float(), list(images.shape), align_corners=False)
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)


def losses(model: Autoencoder, images: torch.Tensor) -> dict[str, torch.Tensor]:
    mean, logvar = model.encode(images)
    latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
    error = ((model.decode(latents) - images) ** 2).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
    thumbnail = (F.avg_pool2d(images[:, :1], 8) - THUMBNAIL_MEAN) / THUMBNAIL_STD
    tie = ((mean - thumbnail) ** 2).mean()
    total = error + KL_WEIGHT * kl + THUMBNAIL_WEIGHT * tie
    return {"loss": total, "error": error, "kl": kl, "tie": tie}


def train(images: np.ndarray, seed: int, log: Callable[[str], None]) -> Autoencoder:
    """Fit an autoencoder to `images` (uint8 [N,64,64]); the same bits for the same threads."""
    torch.manual_seed(seed)
    rng = seeds.generator(seed, "digits autoencoder")
    pool = torch.from_numpy(images[:, None]).float() / 127.5 - 1
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    for step in range(STEPS):
        rate = min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        batch = distort(pool[rng.integers(len(pool), size=BATCH)], rng)
        loss = losses(model, batch.expand(-1, 3, -1, -1).contiguous())
        optimizer.zero_grad()
        loss["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            figures = " ".join(f"{name} {float(value):.5f}" for name, value in loss.items())
            log(f"vae {step + 1}/{STEPS} {figures}")
    return model.eval()


def latent_std(model: Autoencoder, images: np.ndarray) -> float:
    """Standard deviation of latents drawn for `images`, over everything."""
    with torch.no_grad():
        pixels = torch.from_numpy(images[:, None]).float() / 127.5 - 1
        parts = [model.encode(block.expand(-1, 3, -1, -1)) for block in pixels.split(50)]
    mean = torch.cat([part[0] for part in parts]).double()
    variance = torch.cat([part[1] for part in parts]).double().exp().mean()
    return float((mean.var() + variance).sqrt())


def export(model: Autoencoder, folder: Path, scale: float) -> None:
    """Write config.json and the weights as ppdiffusers' AutoencoderKL reads them."""
    from safetensors.numpy import save

    arrays = {}
    for name, value in model.state_dict().items():
        array = value.numpy()
        # paddle keeps a Linear's weight [inputs, outputs], torch [outputs, inputs]
        arrays[name] = np.ascontiguousarray(array.T if array.ndim == 2 else array)
    files.atomic_write_bytes(
        folder / "diffusion_paddle_model.safetensors", save(arrays, metadata={"format": "pd"})
    )
    files.atomic_write_json(folder / "config.json", {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * len(CHANNELS),
        "up_block_types": ["UpDecoderBlock2D"] * len(CHANNELS),
        "block_out_channels": list(CHANNELS),
        "layers_per_block": 1,
        "act_fn": "silu",
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": GROUPS,
        "sample_size": 64,
        "scaling_factor": scale,
    })

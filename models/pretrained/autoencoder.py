"""The frozen VAE between images and latents (ppdiffusers' AutoencoderKL)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import DataError
from models.pretrained import model_folder

if TYPE_CHECKING:
    import paddle

# Names of the attention layers before ppdiffusers 0.19, in Stable Diffusion's VAE too.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


class Autoencoder:
    """A frozen AutoencoderKL in float32.

    `latent_channels` C, `factor` f (an image of H pixels has latents of H/f),
    `scaling_factor` as its config.json says (training uses the run's latent_scale).
    """

    def __init__(self, model: paddle.nn.Layer):
        self.model = model
        self.latent_channels: int = model.config.latent_channels
        self.factor: int = 2 ** (len(model.config.block_out_channels) - 1)
        self.scaling_factor: float = model.config.scaling_factor

    def encode_moments(self, images: np.ndarray | paddle.Tensor) -> np.ndarray:
        """Mean and log-variance of the latents, stacked on the channel axis, unscaled.

        `images`: float32 [B,3,H,W] in [-1,1], H and W multiples of `factor`.
        Returns float32 [B,2C,H/f,W/f], what coco256_features stores.
        """
        import paddle

        with paddle.no_grad():
            hidden = self.model.encoder(paddle.to_tensor(images, dtype="float32"))
            return self.model.quant_conv(hidden).numpy()

    def decode(self, latents: np.ndarray | paddle.Tensor) -> np.ndarray:
        """Images of UNSCALED latents (the caller divides by latent_scale).

        `latents`: float32 [B,C,h,w]. Returns float32 [B,3,f*h,f*w], about [-1,1], not clipped.
        """
        import paddle

        with paddle.no_grad():
            latents = paddle.to_tensor(latents, dtype="float32")
            return self.model.decoder(self.model.post_quant_conv(latents)).numpy()


def load(folder: Path | str) -> Autoencoder:
    """Read a ppdiffusers AutoencoderKL folder (config.json; safetensors or .pdparams).

    EnvironmentFault if the folder or its weights are missing, DataError if a
    file is broken, hostile, or does not fit the others.
    """
    folder = model_folder.require(folder, "autoencoder")
    options, arrays = _read(folder)
    from ppdiffusers import AutoencoderKL

    try:
        model = AutoencoderKL(**options)
    except Exception as error:  # whatever ppdiffusers raises, the config asked for it
        raise DataError(f"{folder / 'config.json'} describes no autoencoder: {error}") from error
    model_folder.assign(model, arrays, folder)
    model.eval()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    return Autoencoder(model)


def check(folder: Path | str) -> int:
    """The latent channels of what `load` would read, after its files were read.

    Errors are `load`'s, but for those that take ppdiffusers, whose import takes seconds.
    """
    options, _ = _read(model_folder.require(folder, "autoencoder"))
    return options["latent_channels"]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """AutoencoderKL's arguments, and the weights under its present names."""
    options = _options(model_folder.read_config(folder), folder)
    arrays = model_folder.read_weights(folder)
    return options, {_renamed(name): _linear(name, a) for name, a in arrays.items()}


def _options(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """AutoencoderKL's arguments out of config.json, each checked: it may ask for anything."""
    widths = config.get("block_out_channels")
    if not isinstance(widths, list) or not 1 <= len(widths) <= 8:
        raise DataError(f"{folder / 'config.json'}: block_out_channels is not a list of widths")
    for k in range(len(widths)):
        model_folder.integer(
            {"block_out_channels": widths[k]}, "block_out_channels", 1, 2048, folder
        )
    limits = {
        "in_channels": (3, 16), "out_channels": (3, 16), "latent_channels": (1, 64),
        "layers_per_block": (1, 8), "norm_num_groups": (32, 512), "sample_size": (32, 8192),
    }
    options: dict[str, Any] = {
        key: model_folder.integer(config, key, default, most, folder)
        for key, (default, most) in limits.items()
    }
    groups = options["norm_num_groups"]
    if any(width % groups for width in widths):  # paddle notices only when it runs
        raise DataError(
            f"{folder / 'config.json'}: norm_num_groups {groups} does not divide "
            f"block_out_channels {widths}"
        )
    for key, block in _BLOCKS.items():
        if config.get(key, [block] * len(widths)) != [block] * len(widths):
            raise DataError(f"{folder / 'config.json'}: {key} has blocks other than {block}")
        options[key] = (block,) * len(widths)
    scale = config.get("scaling_factor", 0.18215)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise DataError(f"{folder / 'config.json'}: scaling_factor is not a positive number")
    if config.get("act_fn", "silu") not in ("silu", "swish"):
        raise DataError(f"{folder / 'config.json'}: act_fn is not silu")
    return options | {"block_out_channels": tuple(widths), "scaling_factor": float(scale)}


def _renamed(name: str) -> str:
    """The present name of a weight that may have an attention layer's old one."""
    stem, _, leaf = name.rpartition(".")
    head, _, layer = stem.rpartition(".")
    if ".attentions." in name and layer in _RENAMED:
        return f"{head}.{_RENAMED[layer]}.{leaf}"
    return name


def _linear(name: str, array: np.ndarray) -> np.ndarray:
    """Attention projections that an old file keeps as 1x1 convolutions, as Linear weights."""
    if ".attentions." in name and array.ndim == 4 and array.shape[2:] == (1, 1):
        return np.ascontiguousarray(array[:, :, 0, 0].T)
    return array

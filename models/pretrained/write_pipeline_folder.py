"""The folders that a ppdiffusers pipeline is made of, written from our models.

Two facts of ppdiffusers 0.24 shape them. Its samplers count timesteps from 0 while U-ViT is given
n = t + 1; and `LDMTextToImageUViTPipeline` decodes with 0.18215 whatever the VAE says. For that
pipeline, which is to run without anything of ours, the scheduler is shifted by one step
(`shifted_betas`) and the VAE is put into other units (`rescaled_vae`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError
from models.pretrained.autoencoder import Autoencoder
from models.pretrained.text_encoder import TextEncoder

# Written into ppdiffusers' LDMTextToImageUViTPipeline.decode_latents.
UVIT_PIPELINE_SCALE = 0.18215


def write_unet(
    folder: Path, arrays: Mapping[str, np.ndarray], section: Mapping[str, Any], class_name: str
) -> None:
    """unet/: weights in paddle's layout, and a config that ppdiffusers' UViTT2IModel takes too."""
    config = {**section, "out_channels": section["in_channels"], "norm_type": "layer_norm"}
    _write_model(folder, arrays, {"_class_name": class_name, **config})


def write_vae(folder: Path, vae: Autoencoder, *, latent_scale: float, scale_as: float) -> None:
    """vqvae/: `vae` so that latents divided by `scale_as` decode as `latent_scale` would have it.

    The same `scale_as` is its `scaling_factor`, so that encoding agrees with it as well.
    """
    arrays = {name: p.numpy() for name, p in vae.model.state_dict().items()}
    if scale_as != latent_scale:
        arrays = rescaled_vae(arrays, latent_scale / scale_as)
    config = {k: v for k, v in dict(vae.model.config).items() if not k.startswith("_")}
    config |= {"_class_name": "AutoencoderKL", "scaling_factor": scale_as}
    _write_model(folder, arrays, config)


def rescaled_vae(arrays: Mapping[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    """AutoencoderKL weights whose latents are `factor` times what they were; images are the same.

    The 1x1 convolutions at the latents are the linear places for it: `post_quant_conv` divides by
    the factor, `quant_conv` multiplies the mean by it and adds 2 ln(factor) to the log-variance.
    """
    out = dict(arrays)
    dtype = np.float64
    out["post_quant_conv.weight"] = arrays["post_quant_conv.weight"].astype(dtype) / factor
    for leaf in ("weight", "bias"):
        moments = arrays[f"quant_conv.{leaf}"].astype(dtype)
        half = len(moments) // 2
        moments[:half] *= factor
        if leaf == "bias":
            moments[half:] += 2 * math.log(factor)
        out[f"quant_conv.{leaf}"] = moments
    return {name: array.astype(np.float32) for name, array in out.items()}


def write_text_encoder(folder: Path, text: TextEncoder) -> None:
    """bert/ or text_encoder/: a paddlenlp CLIPTextModel."""
    text.model.save_pretrained(str(folder), safe_serialization=True)


def write_tokenizer(folder: Path, text: TextEncoder) -> None:
    """tokenizer/: the CLIPTokenizer, told to cut and pad at the encoder's `max_length`."""
    text.tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    config = files.read_json(path) if path.exists() else {}
    config |= {"model_max_length": text.max_length, "tokenizer_class": "CLIPTokenizer"}
    files.atomic_write_json(path, config)


def write_scheduler(
    folder: Path, betas: np.ndarray, *, beta_start: float, beta_end: float, shifted: bool
) -> None:
    """scheduler/: DDIM as Stable Diffusion sets it (50 of 1000 steps are 981, 961, ..., 1).

    `shifted`: index n in place of n - 1 for the same noise level, see `shifted_betas`.
    """
    config = {
        "_class_name": "DDIMScheduler",
        "_ppdiffusers_version": metadata.version("ppdiffusers"),
        "num_train_timesteps": len(betas),
        "beta_start": beta_start,
        "beta_end": beta_end,
        "beta_schedule": "scaled_linear",
        "trained_betas": shifted_betas(betas) if shifted else None,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 2 if shifted else 1,
        "prediction_type": "epsilon",
    }
    files.atomic_write_json(folder / "scheduler_config.json", config)


def shifted_betas(betas: np.ndarray) -> list[float]:
    """N + 1 betas whose cumulative product at index n is that of `betas` at n - 1, for n >= 1.

    A scheduler that hands its index to the network then hands it n = t + 1. Index 0 has the level
    of index 1, so that the last step ends where it would (`set_alpha_to_one=False`).
    """
    return [float(betas[0]), 0.0, *(float(beta) for beta in betas[1:])]


def _write_model(folder: Path, arrays: Mapping[str, np.ndarray], config: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {**config, "_ppdiffusers_version": metadata.version("ppdiffusers")}
    files.atomic_write_json(folder / "config.json", config)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with files.atomic_path(folder / "diffusion_paddle_model.safetensors") as temporary:
        # "pd": Linear weights are [in, out]; without it ppdiffusers would turn them
        save_file(contiguous, temporary, metadata={"format": "pd"})


def require_fit(
    model: dict[str, Any], vae: Autoencoder, text: TextEncoder
) -> None:
    """DataError unless the VAE and the text encoder are of the model's sizes."""
    for what, found, wanted in (
        ("the text encoder's width", text.hidden_size, model["clip_dim"]),
        ("the tokens of a prompt", text.max_length, model["num_text_tokens"]),
        ("the VAE's latent channels", vae.latent_channels, model["in_channels"]),
    ):
        if found != wanted:
            raise DataError(
                f"{what}: {found}, but the model was trained with {wanted}",
                remedy="name the one that the training features were made with",
            )

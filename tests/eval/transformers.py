"""Small DINOv2 and CLIP folders with random weights, and their forward pass in numpy, float64.

Written from the papers and Hugging Face's names, apart from the product's: another language of
arrays, head by head, and a bicubic of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy.special import erf

PATCH = 14


@dataclass(frozen=True)
class Size:
    """`side`: patches a side of DINOv2's table of positions; `image`: CLIP's, pixels a side."""

    width: int = 32
    heads: int = 2
    layers: int = 2
    side: int = 18
    image: int = 56
    projection: int = 24


SMALL = Size()
LARGE = Size(1024, 16, 24, 37, 336, 768)  # the published


def config(name: str, size: Size = SMALL) -> dict[str, Any]:
    """What config.json holds."""
    shared = {
        "hidden_size": size.width, "num_attention_heads": size.heads,
        "num_hidden_layers": size.layers, "patch_size": PATCH,
    }
    if name == "dinov2":
        return shared | {
            "model_type": "dinov2", "image_size": size.side * PATCH, "mlp_ratio": 4,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True,
            "use_swiglu_ffn": False, "layerscale_value": 1.0,
        }
    vision = shared | {
        "intermediate_size": 4 * size.width, "image_size": size.image, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5, "projection_dim": size.projection,
    }
    return {"model_type": "clip", "projection_dim": size.projection, "vision_config": vision}


def shapes(name: str, size: Size = SMALL) -> dict[str, tuple[int, ...]]:
    width = size.width
    kernel = (width, 3, PATCH, PATCH)
    if name == "dinov2":
        found = {
            "embeddings.cls_token": (1, 1, width),
            "embeddings.mask_token": (1, width),
            "embeddings.position_embeddings": (1, 1 + size.side**2, width),
            "embeddings.patch_embeddings.projection.weight": kernel,
            "embeddings.patch_embeddings.projection.bias": (width,),
            "layernorm.weight": (width,), "layernorm.bias": (width,),
        }
        layers, norms = "encoder.layer", ("norm1", "norm2")
        linear = [f"attention.attention.{n}" for n in ("query", "key", "value")]
        linear.append("attention.output.dense")
        scales = ("layer_scale1.lambda1", "layer_scale2.lambda1")
    else:
        at = "vision_model.embeddings"
        found = {
            f"{at}.class_embedding": (width,), f"{at}.patch_embedding.weight": kernel,
            f"{at}.position_embedding.weight": (1 + (size.image // PATCH) ** 2, width),
            "visual_projection.weight": (size.projection, width),
            "text_model.final_layer_norm.weight": (width,),
        }
        for norm in ("pre_layrnorm", "post_layernorm"):
            found |= {f"vision_model.{norm}.{part}": (width,) for part in ("weight", "bias")}
        layers, norms = "vision_model.encoder.layers", ("layer_norm1", "layer_norm2")
        linear = [f"self_attn.{n}_proj" for n in ("q", "k", "v", "out")]
        scales = ()
    for k in range(size.layers):
        at = f"{layers}.{k}"
        found |= {f"{at}.{n}.{part}": (width,) for n in norms for part in ("weight", "bias")}
        for n, (rows, columns) in {
            **dict.fromkeys(linear, (width, width)), "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            found |= {f"{at}.{n}.weight": (rows, columns), f"{at}.{n}.bias": (rows,)}
        found |= {f"{at}.{n}": (width,) for n in scales}
    return found


def weights(name: str, size: Size = SMALL) -> dict[str, np.ndarray]:
    """Random, in float32; norms and scales around 1, matrices that keep the signal's size."""
    random = np.random.default_rng(7)
    found = {}
    for key, shape in shapes(name, size).items():
        drawn = random.standard_normal(shape, np.float32)
        if "norm" in key and key.endswith("weight") or "lambda" in key:
            drawn = 1 + 0.2 * drawn
        elif len(shape) > 1 and "embeddings.p" not in key.replace("patch", ""):
            drawn /= math.sqrt(math.prod(shape[1:]))
        found[key] = (drawn if len(shape) > 1 else drawn * 0.5 + 0.5 * ("norm" in key)).astype(
            np.float32
        )
    return found


def write(folder: Path, name: str, size: Size = SMALL) -> Path:
    """The folder of `name`, as Hugging Face's from_pretrained reads it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(name, size)))
    save_file(weights(name, size), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def forward(name: str, images: np.ndarray) -> np.ndarray:
    """Features float64 [n, d] of images float [n, 3, side, side], already normalised."""
    w = {key: value.astype(np.float64) for key, value in weights(name).items()}
    found = np.stack([_one(name, w, image.astype(np.float64)) for image in images])
    return found / np.linalg.norm(found, axis=1, keepdims=True) if name == "clip" else found


def _one(name, w, image):
    side = image.shape[1] // PATCH
    if name == "dinov2":
        at = "embeddings.patch_embeddings.projection"
        kernel, bias = w[f"{at}.weight"], w[f"{at}.bias"]
        first, table = w["embeddings.cls_token"], w["embeddings.position_embeddings"][0]
        layers, eps = "encoder.layer", 1e-6
        inner = ("norm1", "norm2", *(f"attention.attention.{n}" for n in ("query", "key", "value")),
                 "attention.output.dense")
        table = np.concatenate([table[:1], bicubic(
            table[1:].reshape(SMALL.side, SMALL.side, SMALL.width), side, (side + 0.1) / SMALL.side
        ).reshape(side * side, SMALL.width)])
    else:
        at = "vision_model.embeddings"
        kernel, bias = w[f"{at}.patch_embedding.weight"], 0.0
        first, table = w[f"{at}.class_embedding"], w[f"{at}.position_embedding.weight"]
        layers, eps = "vision_model.encoder.layers", 1e-5
        inner = ("layer_norm1", "layer_norm2", *(f"self_attn.{n}_proj" for n in "qkv"),
                 "self_attn.out_proj")
    rows = [first.reshape(SMALL.width)]
    for i in range(side):
        for j in range(side):
            patch = image[:, i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH]
            rows.append(np.tensordot(kernel, patch, 3) + bias)
    x = np.stack(rows) + table

    def norm(y, key):
        centred = y - y.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * w[f"{key}.weight"] + w[f"{key}.bias"]

    def linear(y, key):
        return y @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    if name == "clip":
        x = norm(x, "vision_model.pre_layrnorm")
    size = SMALL.width // SMALL.heads
    for k in range(SMALL.layers):
        at = f"{layers}.{k}."
        y = norm(x, at + inner[0])
        q, key, v = (linear(y, at + n) for n in inner[2:5])
        heads = []
        for h in range(SMALL.heads):
            part = slice(h * size, (h + 1) * size)
            scores = np.exp(q[:, part] @ key[:, part].T / math.sqrt(size))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        y = linear(np.concatenate(heads, axis=1), at + inner[5])
        x = x + y * w.get(f"{at}layer_scale1.lambda1", 1.0)
        y = linear(norm(x, at + inner[1]), f"{at}mlp.fc1")
        gelu = y * 0.5 * (1 + erf(y / math.sqrt(2)))
        y = gelu if name == "dinov2" else y / (1 + np.exp(-1.702 * y))
        x = x + linear(y, f"{at}mlp.fc2") * w.get(f"{at}layer_scale2.lambda1", 1.0)
    if name == "dinov2":
        return norm(x[:1], "layernorm")[0]
    return w["visual_projection.weight"] @ norm(x[:1], "vision_model.post_layernorm")[0]


def bicubic(square: np.ndarray, size: int, scale: float) -> np.ndarray:
    """[m, m, d] -> [size, size, d] by Keys' kernel with a = -0.75; edges held, no antialiasing."""
    def kernel(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    mix = np.zeros((size, len(square)))
    for i in range(size):
        at = (i + 0.5) / scale - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            mix[i, min(max(j, 0), len(square) - 1)] += kernel(at - j)
    return np.einsum("ia,jb,abd->ijd", mix, mix, square)

"""DINOv2's and CLIP's image transformers in torch: the forward pass over a state dict.

By hand, because neither transformers nor timm is among the locked packages and torchvision's
transformer has neither layer scale nor QuickGELU. Held against an independent computation by test.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from eval.features.image_files import DECODERS
from eval.features.transformer_weights import find_weights
from eval.features.vision_transformers import KINDS, settings
from harness.base.errors import DataError
from harness.files import tensor_files

Tensor = torch.Tensor
# What is called what in a layer: norms, query, key, value, output, scales.
NAMES = {
    "dinov2": ("encoder.layer", "norm1", "norm2", "attention.attention.query",
               "attention.attention.key", "attention.attention.value", "attention.output.dense"),
    "clip": ("vision_model.encoder.layers", "layer_norm1", "layer_norm2", "self_attn.q_proj",
             "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
}


class Transformer:
    """`features(pixels)` of the network `name` with the weights in `folder`."""

    def __init__(self, name: str, folder: Path):
        self.name, self.kind, self.settings = name, KINDS[name], settings(name, folder)
        self.size = self.settings["size"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        path = find_weights(name, folder)
        self.weights = {
            key: value.to(self.device) for key, value in _read(path).items()
            if not key.startswith("text_")
        }
        side = self.settings["image"]
        try:  # whatever is missing or of another shape shows before images are waited for
            self.features([np.zeros((side, side, 3), np.uint8)])
        except (KeyError, RuntimeError, IndexError, ValueError) as error:
            raise DataError(
                f"{path} does not fit its config.json: {str(error).splitlines()[0][:200]}",
                remedy=f"`harness fetch {name}` puts the right ones in place",
            ) from error

    def features(self, pixels: list[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [n, size]."""
        side = self.settings["image"]
        with ThreadPoolExecutor(DECODERS) as pool:  # Pillow lets go of the interpreter's lock
            prepared = list(pool.map(lambda image: self.kind.prepare(image, side), pixels))
        with torch.inference_mode():
            found = self.forward(torch.from_numpy(np.stack(prepared)).to(self.device))
        return found.float().cpu().numpy()

    def forward(self, images: Tensor) -> Tensor:
        """Prepared images [n, 3, side, side] -> features [n, size]."""
        found = self._clip(images) if self.name == "clip" else self._dinov2(images)
        return found / found.norm(dim=-1, keepdim=True) if self.kind.unit else found

    def _dinov2(self, images: Tensor) -> Tensor:
        w, at = self.weights, "embeddings.patch_embeddings.projection"
        tokens = _tokens(F.conv2d(images, w[f"{at}.weight"], w[f"{at}.bias"],
                                  stride=self.settings["patch"]), w["embeddings.cls_token"])
        tokens = tokens + _positions(w["embeddings.position_embeddings"], tokens)
        return self._norm(self._layers(tokens)[:, 0], "layernorm")

    def _clip(self, images: Tensor) -> Tensor:
        w, at = self.weights, "vision_model.embeddings"
        patches = F.conv2d(images, w[f"{at}.patch_embedding.weight"],
                           stride=self.settings["patch"])
        tokens = _tokens(patches, w[f"{at}.class_embedding"])
        tokens = tokens + w[f"{at}.position_embedding.weight"]
        tokens = self._layers(self._norm(tokens, "vision_model.pre_layrnorm"))
        pooled = self._norm(tokens[:, 0], "vision_model.post_layernorm")
        return F.linear(pooled, w["visual_projection.weight"])

    def _layers(self, x: Tensor) -> Tensor:
        layers, norm1, norm2, *attention = NAMES[self.name]
        for number in range(self.settings["layers"]):
            at = f"{layers}.{number}."
            attended = self._attention(self._norm(x, at + norm1), [at + n for n in attention])
            x = x + self._scaled(attended, f"{at}layer_scale1.lambda1")
            y = self._linear(self._norm(x, at + norm2), f"{at}mlp.fc1")
            exact = self.settings["activation"] == "gelu"
            y = F.gelu(y) if exact else y * torch.sigmoid(1.702 * y)
            x = x + self._scaled(self._linear(y, f"{at}mlp.fc2"), f"{at}layer_scale2.lambda1")
        return x

    def _attention(self, x: Tensor, names: list[str]) -> Tensor:
        heads = self.settings["heads"]
        query, key, value = (
            self._linear(x, name).unflatten(-1, (heads, -1)).transpose(1, 2) for name in names[:3]
        )
        found = F.scaled_dot_product_attention(query, key, value)
        return self._linear(found.transpose(1, 2).flatten(2), names[3])

    def _scaled(self, x: Tensor, name: str) -> Tensor:
        return x * self.weights[name] if self.name == "dinov2" else x

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.settings["eps"])


def _tokens(patches: Tensor, first: Tensor) -> Tensor:
    """Patches [n, d, h, w] and the class token -> [n, 1 + h w, d]."""
    flat = patches.flatten(2).transpose(1, 2)
    return torch.cat([first.reshape(1, 1, -1).expand(len(flat), -1, -1), flat], dim=1)


def _positions(table: Tensor, tokens: Tensor) -> Tensor:
    """DINOv2's table [1, 1 + m m, d] for a square grid of another size, as its authors' code:
    bicubic, with a tenth of a patch added to the size, which moves every value a little."""
    side, grid = (round((t.shape[1] - 1) ** 0.5) for t in (table, tokens))
    if side == grid:
        return table
    scale = (grid + 0.1) / side
    square = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    found = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([table[:, :1], found.flatten(2).transpose(1, 2)], dim=1)


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in `path` as float32; DataError if it is none."""
    if path.suffix == ".safetensors":
        arrays = tensor_files.read(path)
        return {name: torch.from_numpy(np.asarray(array, np.float32))
                for name, array in arrays.items() if array.dtype.kind == "f"}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float() for name, value in state.items()}
    except Exception as error:  # torch raises a dozen kinds for a bad file
        raise DataError(f"{path} is no state dict: {str(error).splitlines()[0][:200]}") from error

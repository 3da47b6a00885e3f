"""DINOv2 and CLIP as feature networks: whose, how images are prepared, which weights they have.

Folders are Hugging Face's: config.json with model.safetensors or pytorch_model.bin. What their
preprocessor_config.json says is not followed: a figure compares with published ones only if images
are prepared as those who published them did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.features.torch_process import TorchFeatures
from eval.features.transformer_weights import PUBLISHED, find_weights
from harness import files
from harness.base.errors import DataError

BATCH_SIZE = 16
# OpenAI's for CLIP, and ImageNet's, in RGB.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MOST = 1 << 16


@dataclass(frozen=True)
class Kind:
    """How a network's images are prepared and what it gives.

    `crop`: to the largest centred square before resizing, else both sides are resized alone.
    `unit`: features are divided by their length. `image_size`: None where the config says it.
    """

    network: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: bool
    unit: bool
    image_size: int | None
    source: str

    def preprocessing(self, size: int) -> str:
        """In words, as a protocol carries it."""
        square = "largest centred square, " if self.crop else ""
        return f"{square}PIL bicubic (antialiased) to {size}x{size} uint8, {self.source}"

    def prepare(self, image: np.ndarray, size: int) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [3, size, size]."""
        from PIL import Image

        picture = Image.fromarray(image)
        if self.crop:
            side = min(picture.size)
            left, top = ((extent - side) // 2 for extent in picture.size)
            picture = picture.crop((left, top, left + side, top + side))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture, np.float32) / np.float32(255)
        pixels = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


KINDS = {
    # layer6ai-labs/dgm-eval, dgm_eval/models/dinov2.py (Stein et al. 2023)
    "dinov2": Kind(
        "DINOv2 class token", IMAGENET_MEAN, IMAGENET_STD, crop=False, unit=False, image_size=224,
        source="ImageNet's mean and deviation, as dgm-eval",
    ),
    # google-research/cmmd, io_util.py and embedding.py (Jayasumana et al. 2024)
    "clip": Kind(
        "CLIP image embedding of length 1", CLIP_MEAN, CLIP_STD, crop=True, unit=True,
        image_size=None, source="CLIP's mean and deviation, as CMMD",
    ),
}


def settings(name: str, folder: Path) -> dict[str, Any]:
    """What the config.json in `folder` says of the forward pass; DataError if it cannot be.

    Keys: width, layers, heads, patch, image (pixels a side), eps, activation, size (of features).
    """
    path = folder / "config.json"
    config = files.read_json(path)
    vision = config.get("vision_config", config) if isinstance(config, dict) else None
    if not isinstance(vision, dict) or vision.get("use_swiglu_ffn"):
        raise DataError(f"{path} describes no {name} that this can run")
    asked = {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
             "patch": "patch_size", "image": "image_size"}
    found: dict[str, Any] = {key: vision.get(there) for key, there in asked.items()}
    found["image"] = KINDS[name].image_size or found["image"]
    found["size"] = found["width"]
    if name == "clip":
        found["size"] = config.get("projection_dim", vision.get("projection_dim"))
    if not all(type(value) is int and 1 <= value <= _MOST for value in found.values()):
        raise DataError(f"{path}: {', '.join(asked.values())} or projection_dim cannot be")
    if found["width"] % found["heads"] or found["image"] % found["patch"]:
        raise DataError(f"{path}: heads do not divide the width, or patches the image")
    default = ("quick_gelu", 1e-5) if name == "clip" else ("gelu", 1e-6)
    found["activation"] = vision.get("hidden_act", default[0])
    found["eps"] = vision.get("layer_norm_eps", default[1])
    if found["activation"] not in ("gelu", "quick_gelu") or not isinstance(found["eps"], float):
        raise DataError(f"{path}: hidden_act or layer_norm_eps is not what {name} has")
    return found


class TransformerFeatures(TorchFeatures):
    """Features of "dinov2" or "clip" with the weights in `folder` (default: where `fetch` puts
    them). Other weights than the published give other distances, under another name (`metric`).
    """

    def __init__(self, name: str, folder: Path | str | None = None):
        weights = find_weights(name, folder)
        self.settings = settings(name, weights.parent)
        sha256 = files.sha256_file(weights)
        published = PUBLISHED[name]
        self.official = (
            sha256 == published.weights.sha256 and self.settings == published.settings
        )
        digest = files.json_digest(self.settings)
        super().__init__(
            name, weights.parent, sha256=sha256, size=self.settings["size"],
            batch_size=BATCH_SIZE, told={"network": name, "settings": digest},
        )

    def describe(self) -> dict[str, Any]:
        """What a protocol says of the features."""
        kind = KINDS[self.name]
        return {
            "network": kind.network, "size": self.size, "sha256": self.sha256,
            "official": self.official, "settings": self.settings,
            "preprocessing": kind.preprocessing(self.settings["image"]),
        }

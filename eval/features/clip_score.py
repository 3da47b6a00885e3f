"""CLIP score: how well an image fits the caption it was sampled for (Hessel et al. 2021).

100 max(cos(image, text), 0), averaged over samples; only where a whole CLIP model (paddlenlp's
folder: both towers and the projections) and the captions' texts are at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.features.vision_transformers import CLIP_MEAN, CLIP_STD
from harness.base.errors import DataError
from models.pretrained import model_folder, text_encoder

MEAN, STD = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)


class ClipScore:
    """Scores images against texts. `batch_size` images are encoded at once, padded."""

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int = 10):
        self._model, self._batch_size = model, batch_size
        self.image_size = int(model.config.vision_config.image_size)
        room = int(model.config.text_config.max_position_embeddings)
        self._words = text_encoder.TextEncoder(model.text_model, tokenizer, room)

    def score(self, images: np.ndarray, texts: list[str]) -> np.ndarray:
        """uint8 [n, H, W, 3] and n texts -> float64 [n], 0..100."""
        a, b = self.image_features(images), self.text_features(texts)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b /= np.linalg.norm(b, axis=1, keepdims=True)
        return 100.0 * np.maximum((a * b).sum(axis=1), 0.0)

    def image_features(self, images: np.ndarray) -> np.ndarray:
        """Projected features, float64 [n, d]."""
        return self._batched(
            np.stack([prepare(image, self.image_size) for image in images]),
            lambda pixels: self._model.get_image_features(pixel_values=pixels),
        )

    def text_features(self, texts: list[str]) -> np.ndarray:
        """Projected features, float64 [n, d]."""
        return self._batched(
            self._words.tokens(texts), lambda ids: self._model.get_text_features(input_ids=ids)
        )

    def _batched(self, inputs: np.ndarray, network: Any) -> np.ndarray:
        import paddle

        from eval.sampling.latent_sampling import pad

        parts = []
        with paddle.no_grad():
            for first in range(0, len(inputs), self._batch_size):
                chunk = inputs[first : first + self._batch_size]
                found = network(paddle.to_tensor(pad(chunk, self._batch_size)))
                parts.append(found.numpy()[: len(chunk)])
        return np.concatenate(parts).astype(np.float64)


def prepare(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [3, size, size]: shorter side to `size` (bicubic), centre crop,
    normalised, as CLIP's own preprocessing."""
    from PIL import Image

    height, width = image.shape[:2]
    scale = size / min(height, width)
    resized = (max(size, round(width * scale)), max(size, round(height * scale)))
    scaled = Image.fromarray(image).resize(resized, Image.Resampling.BICUBIC)
    pixels = np.asarray(scaled, np.float32)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    pixels = pixels[top : top + size, left : left + size] / np.float32(255)
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def load(folder: Path, tokenizer: Path | None = None) -> ClipScore:
    """Read a paddlenlp CLIPModel folder, with its tokenizer in it, beside it, or where given.

    EnvironmentFault if something is missing, DataError if it is broken or no whole CLIP.
    """
    folder = model_folder.require(folder, "CLIP model")
    if tokenizer is None:
        tokenizer = folder if (folder / "vocab.json").exists() else folder.parent / "tokenizer"
    words = text_encoder.load_tokenizer(tokenizer)
    config = model_folder.read_config(folder)
    arrays = model_folder.read_weights(folder)
    from paddlenlp.transformers import CLIPConfig, CLIPModel

    try:
        model = CLIPModel(CLIPConfig.from_dict(config))
    except Exception as error:  # whatever paddlenlp raises, the config asked for it
        raise DataError(f"{folder / 'config.json'} describes no CLIP model: {error}") from error
    model_folder.assign(model, arrays, folder)
    model.eval()
    return ClipScore(model, words)

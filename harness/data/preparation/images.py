"""An image file as the VAE wants it: the official U-ViT preparation of MS-COCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.features.image_files import coco256
from harness.files.image_reading import opened_image


def prepare(path: Path, size: int) -> np.ndarray:
    """The centre square of an image, resized: float32 [3, size, size] in [-1, 1].

    RGB, the largest centred square (odd remainders to the right and below), Lanczos,
    uint8, then x / 127.5 - 1 (official U-ViT: datasets.py, `center_crop`). DataError
    if the file is not an image that can be read.
    """
    with opened_image(path) as image:
        pixels = coco256(np.asarray(image.convert("RGB")), size)
    values = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return np.ascontiguousarray(values.transpose(2, 0, 1))

"""An image file as the VAE wants it: the official U-ViT preparation of MS-COCO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.files.image_reading import opened_image

if TYPE_CHECKING:
    from PIL.Image import Image


def prepare(path: Path, size: int) -> np.ndarray:
    """The centre square of an image, resized: float32 [3, size, size] in [-1, 1].

    RGB, the largest centred square (odd remainders to the right and below), Lanczos,
    uint8, then x / 127.5 - 1 (official U-ViT: datasets.py, `center_crop`). DataError
    if the file is not an image that can be read.
    """
    with opened_image(path) as image:
        rgb = image.convert("RGB")
    return to_unit(centre_square(rgb, size))


def centre_square(image: Image, size: int) -> np.ndarray:
    """The centre square of an RGB image, resized with Lanczos: uint8 [size, size, 3]."""
    from PIL import Image

    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS), np.uint8)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [-1, 1]."""
    values = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return np.ascontiguousarray(values.transpose(2, 0, 1))

"""Reading image files for a feature network. No torch, no paddle."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from harness.base.errors import DataError
from harness.files.image_reading import opened_image

# pytorch-fid's list, in its spelling: other files in a folder are passed over.
EXTENSIONS = ("bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp")
DECODERS = max(1, min(8, len(os.sched_getaffinity(0))))  # threads that decode or resize


def listing(folder: Path | str) -> list[Path]:
    """The image files directly in `folder`, sorted as pytorch-fid does; DataError if none."""
    folder = Path(folder)
    found = sorted(path for ext in EXTENSIONS for path in folder.glob(f"*.{ext}"))
    if not found:
        raise DataError(
            f"{folder} holds no images ({', '.join(EXTENSIONS)})",
            remedy="give a folder of image files, not of folders",
        )
    return found


def load(path: Path | str, preparation: str = "none") -> np.ndarray:
    """One image as uint8 RGB [H, W, 3]; DataError if it cannot be decoded."""
    with opened_image(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return coco256(pixels) if preparation == "coco256" else pixels


def coco256(pixels: np.ndarray, size: int = 256) -> np.ndarray:
    """Largest centred square, then Lanczos to `size`: the official code's MS-COCO preparation."""
    from PIL import Image

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    # The official code slices to (height + side) // 2: for odd differences the same square.
    square = pixels[top : (height + side) // 2, left : (width + side) // 2]
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))

"""Images: from the decoder's floats to uint8, side by side, and into a PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness import files

GAP = 2  # white pixels between the images of a sheet, and around it


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Decoded images float [n, 3, H, W] in [-1, 1] -> uint8 [n, H, W, 3].

    Clipped and rounded half up, as the official code's `unpreprocess` and torchvision's
    `save_image` do (`eval.protocols.QUANTISATION`).
    """
    unit = np.clip((np.asarray(images, np.float32) + 1.0) * np.float32(0.5), 0.0, 1.0)
    return (unit * np.float32(255.0) + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1)


def default_columns(count: int) -> int:
    """Columns of a sheet of `count` images that is about square."""
    return int(np.ceil(np.sqrt(count)))


def arrange(images: np.ndarray, columns: int | None = None, gap: int = GAP) -> np.ndarray:
    """uint8 [n, H, W, 3] -> one white-gapped sheet [rows*(H+gap)+gap, columns*(W+gap)+gap, 3].

    `columns` defaults to about the square root of n.
    """
    if not len(images):
        raise ValueError("no images to arrange")
    count, height, width, channels = images.shape
    columns = columns or default_columns(count)
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        top, left = gap + y * (height + gap), gap + x * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def save_grid(
    images: np.ndarray, path: Path | str, *, columns: int | None = None,
    prompts: list[str] | None = None,
) -> None:
    """Write uint8 images [n, H, W, 3] as one PNG, atomically.

    With `prompts`, one an image, text chunks of the PNG say them and how it is cut (`prompts`
    as JSON, `columns`, `gap`), so that a report can set single images side by side.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    if prompts is not None:
        text.add_text("prompts", json.dumps(prompts))
        text.add_text("columns", str(columns or default_columns(len(images))))
        text.add_text("gap", str(GAP))
    with files.atomic_path(path) as temporary:
        Image.fromarray(arrange(images, columns)).save(temporary, format="PNG", pnginfo=text)

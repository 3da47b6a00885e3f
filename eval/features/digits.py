"""Features and a plain classifier for the embedded digits: no download, no torch.

The distance made with these features is `fd_digits`, never FID: its figures
compare with nothing but each other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError

NAME = "digits-strokes33"
FILE = "features.safetensors"
DIRECTIONS = 8
COMPONENTS = 32
CLASSIFIER_COMPONENTS = 48
KERNEL_WIDTH = 2.0  # squared, in units of the components' total variance
RIDGE = 1e-2
# The train split's features have this total variance, so distances read as per cent of it.
VARIANCE = 100.0
_BLOCK = 100  # images at a time: what fits the cache is twice as fast


def represent(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ink and strokes of each image, and the energy of its colours (a digit has none).

    `images`: uint8 [N,64,64,3]. Returns float64 [N,768]: mean ink in 16x16 cells,
    then for 8x8 cells the mean of the ink's gradient towards each of 8 directions
    (rectified, so that both sides of a stroke are told apart; Dalal and Triggs 2005
    without their normalisation); and float64 [N].
    """
    images = _checked(images)
    parts = [_represent(images[k : k + _BLOCK]) for k in range(0, len(images), _BLOCK)]
    cells = 256 + 64 * DIRECTIONS
    if not parts:
        return np.zeros((0, cells)), np.zeros(0)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _checked(images: np.ndarray) -> np.ndarray:
    if images.dtype != "uint8" or images.ndim != 4 or images.shape[1:] != (64, 64, 3):
        raise DataError(
            f"digits features want uint8 [N,64,64,3] images, got {images.dtype} "
            f"{list(images.shape)}"
        )
    return images


def _represent(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = images.astype(np.float64) / 255
    ink = 1 - pixels.mean(-1)
    across, down = np.zeros_like(ink), np.zeros_like(ink)
    across[:, :, 1:-1] = ink[:, :, 2:] - ink[:, :, :-2]
    down[:, 1:-1] = ink[:, 2:] - ink[:, :-2]
    parts = [_cells(ink, 4)]
    for k in range(DIRECTIONS):
        angle = 2 * np.pi * k / DIRECTIONS
        towards = across * np.cos(angle) + down * np.sin(angle)
        parts.append(4 * _cells(np.maximum(towards, 0), 8))
    colour = _cells(((pixels - (1 - ink)[..., None]) ** 2).mean(-1), 4).sum(1)
    return np.concatenate(parts, axis=1), colour


def _cells(planes: np.ndarray, size: int) -> np.ndarray:
    """Means over size x size cells: [N,64,64] -> [N,(64/size)^2]."""
    count = 64 // size
    return planes.reshape(-1, count, size, count, size).mean((2, 4)).reshape(-1, count * count)


def fit(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `DigitsFeatures` from the train split.

    `images` uint8 [N,64,64,3], `labels` int64 [N]. Principal components, and
    kernel ridge regression of the label's indicator on them (Saunders et al. 1998).
    """
    cells, _ = represent(images)
    mean = cells.mean(0)
    _, spread, basis = np.linalg.svd(cells - mean, full_matrices=False)
    # a component's sign is arbitrary: the largest entry is made positive
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])[:, None]
    total = (spread[:COMPONENTS] ** 2).sum() / len(cells)
    anchors = (cells - mean) @ basis[:CLASSIFIER_COMPONENTS].T
    width = np.asarray(KERNEL_WIDTH * anchors.var(0).sum())
    kernel = _kernel(anchors, anchors, width) + RIDGE * np.eye(len(anchors))
    arrays = {
        "mean": mean,
        "basis": basis[:CLASSIFIER_COMPONENTS],
        "scale": np.asarray((VARIANCE / total) ** 0.5),
        "anchors": anchors,
        "width": width,
        "weights": np.linalg.solve(kernel, np.eye(10)[labels]),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _kernel(a: np.ndarray, b: np.ndarray, width: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-np.maximum(squares, 0) / width)


class DigitsFeatures:
    """A feature network, with the face that `eval.features.networks` gives to all of them."""

    metric = "fd_digits"
    size = COMPONENTS + 1
    concurrent = False  # milliseconds; not worth a thread

    def __init__(self, arrays: dict[str, np.ndarray], digest: str):
        self._arrays = {key: array.astype("float64") for key, array in arrays.items()}
        self._digest = digest

    @classmethod
    def load(cls, data_dir: Path | str) -> DigitsFeatures:
        """From `data_dir`/features.safetensors; DataError if it is missing or broken."""
        path = Path(data_dir) / FILE
        data = files.read_bytes(
            path, remedy="make the data with `harness data digits DIR`", limit=64 << 20
        )
        return cls(_parse(data, path), hashlib.sha256(data).hexdigest())

    def describe(self) -> dict[str, Any]:
        """What a protocol says of the features; SHA-256 is the weights'."""
        return {"network": NAME, "size": self.size, "sha256": self._digest}

    def extract(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N,64,64,3] -> float64 [N,33].

        32 principal components of `represent`, then the length of what they leave
        over, colours included: what is no digit at all lies there.
        """
        a = self._arrays
        cells, colour = represent(images)
        offset = cells - a["mean"]
        parts = offset @ a["basis"][:COMPONENTS].T
        left = np.maximum((offset**2).sum(1) - (parts**2).sum(1), 0) + colour
        return np.concatenate([parts, np.sqrt(left)[:, None]], axis=1) * a["scale"]

    def classify(self, images: np.ndarray) -> np.ndarray:
        """The digit that each image is read as: uint8 [N,64,64,3] -> int64 [N]."""
        a = self._arrays
        points = (represent(images)[0] - a["mean"]) @ a["basis"].T
        scores = _kernel(points, a["anchors"], a["width"]) @ a["weights"]
        return scores.argmax(1).astype(np.int64)


def _parse(data: bytes, path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError  # type: ignore[attr-defined]  # its types lack it
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not readable safetensors: {error}") from error
    cells, parts = 256 + 64 * DIRECTIONS, CLASSIFIER_COMPONENTS
    count = len(arrays["anchors"]) if arrays.get("anchors", np.zeros(())).ndim else 0
    shapes = {
        "mean": (cells,), "basis": (parts, cells), "scale": (), "width": (),
        "anchors": (count, parts), "weights": (count, 10),
    }
    if {name: array.shape for name, array in arrays.items()} != shapes or not all(
        array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()
    ):
        raise DataError(f"{path} does not hold the digits' features")
    return arrays

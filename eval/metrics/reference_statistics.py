"""What samples are compared with: statistics of real images, and their features where at hand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics import feature_statistics
from harness import files
from harness.base.errors import DataError, EnvironmentFault

# In the data directory, by preference. The second is what U-ViT's authors publish.
NAMES = ("reference.npz", "fid_stats_mscoco256_val.npz")
IMAGES = "val_images.npy"


@dataclass(frozen=True)
class Reference:
    """Statistics of the real images; `features` [m, d] are there where KID can be had."""

    statistics: feature_statistics.Statistics
    sha256: str
    path: Path
    features: np.ndarray | None = None

    def describe(self) -> dict[str, Any]:
        """What a protocol says of it."""
        samples = None if self.features is None else len(self.features)
        return {"sha256": self.sha256, "path": str(self.path), "samples": samples}


def find(data: Path, given: Path | None = None, *, also: str | None = None) -> Path:
    """`given`, or the reference in the data directory; EnvironmentFault if there is none.

    `also`: of this further feature network.
    """
    names = (f"reference-{also}.npz",) if also else NAMES
    candidates = [given] if given else [data / name for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise EnvironmentFault(
        f"reference statistics are missing: {' or '.join(map(str, candidates))}",
        remedy="make them with `harness stats IMAGES_DIR --with-features "
        f"--network {also} -o {candidates[0]}`" if also else
        "put them there, give --reference NPZ, or make them with "
        "`harness stats IMAGES_DIR -o reference.npz`",
    )


def load(
    network: Any, data: Path, given: Path | None = None, *, also: str | None = None
) -> Reference:
    """The reference for features of `network`.

    Features of the real images come from an array `features` in the .npz (`harness stats
    --features`), or for the digits from DATA/val_images.npy. DataError as in `statistics.load`.
    """
    path = find(data, given, also=also)
    with files.reading(path) as file:
        before = _state(os.fstat(file.fileno()))
        found = feature_statistics.load(path, size=network.size)
        features = _stored_features(path, network.size)
        sha256 = files.sha256_file(path)
        if _state(os.stat(path)) != before:
            raise DataError(f"{path} changed while it was read", remedy="do it again")
    images = data / IMAGES
    if features is None and network.metric == "fd_digits" and images.is_file():
        features = np.asarray(network.extract(files.load_npy(images, dtype="uint8")), np.float32)
    return Reference(found, sha256, path, features)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stored_features(path: Path, size: int) -> np.ndarray | None:
    stored = files.load_npz(path, ("features",), limit=4 << 30, missing_ok=True)
    if (features := stored.get("features")) is None:
        return None
    if features.ndim != 2 or features.shape[1] != size or not np.isfinite(features).all():
        raise DataError(f"{path}: features are not finite values [n, {size}]")
    return features.astype(np.float32)

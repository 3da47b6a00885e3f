"""FID between two folders or files, and statistics of a folder, by Inception features."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.features import image_files, inception, torch_process
from eval.metrics import feature_statistics, frechet
from harness import files
from harness.base.errors import DataError, UsageError
from harness.base.progress import Progress


def compare(
    a: Path, b: Path, *, weights: Path | None = None, keep: Path | None = None
) -> dict[str, Any]:
    """{"fid", "a", "b", "weights_sha256", "official"} of two folders of images or .npz files.

    `keep`: a folder in which features stay, so that an interrupted call continues. Two .npz files
    need no weights (then "weights_sha256" is None). Errors: UsageError for a path that is
    neither, DataError (images, statistics), EnvironmentFault (weights missing).
    """
    kinds = [_kind(path) for path in (a, b)]
    with contextlib.ExitStack() as stack:
        network = None
        if "folder" in kinds:
            network = stack.enter_context(inception.InceptionFeatures(weights))
        found = []
        for side, path, kind in zip("ab", (a, b), kinds, strict=True):
            if network is None or kind == "npz":
                found.append(feature_statistics.load(path))
            else:
                blocks = _features(network, path, "none", keep / side if keep else None)
                found.append(feature_statistics.of_features(blocks))
    return {
        "fid": frechet.distance(*found),
        "a": str(a), "b": str(b),
        "n": [one.count for one in found],
        "weights_sha256": network.sha256 if network else None,
        "official": network.official if network else True,
    }


def write_statistics(
    folder: Path, output: Path, *, preparation: str, with_features: bool = False,
    weights: Path | None = None, keep: Path | None = None,
) -> None:
    """Write `output` (.npz: mu, sigma, and features if asked for) and OUTPUT.json beside it.

    UsageError if the output exists. Interrupted and called again, it goes on from the features
    in `keep` (default OUTPUT.features, removed when done).
    """
    if output.exists():
        raise UsageError(f"{output} exists", remedy="give another name, or remove it")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of images")
    image_files.listing(folder)  # an empty folder is said before the weights are asked for
    blocks_folder = keep or output.with_name(output.name + ".features")
    with inception.InceptionFeatures(weights) as network:
        stored: list[np.ndarray] = []

        def blocks() -> Iterator[np.ndarray]:
            for block in _features(network, folder, preparation, blocks_folder):
                if with_features:
                    stored.append(block)
                yield block

        found = feature_statistics.of_features(blocks())
        made = {
            "images": str(folder), "count": found.count, "preparation": preparation,
            "features": network.describe(),
        }
    files.atomic_write_json(output.with_name(output.name + ".json"), made)
    feature_statistics.save(output, found, features=np.concatenate(stored) if stored else None)
    if keep is None:
        shutil.rmtree(blocks_folder, ignore_errors=True)


def _features(
    network: torch_process.TorchFeatures, folder: Path, preparation: str, keep: Path | None
) -> Iterator[np.ndarray]:
    def progress(count: int) -> Progress:
        return Progress(count, f"features of {folder}", unit="image")

    return torch_process.features_of_folder(
        network, folder, preparation=preparation, keep=keep, progress=progress
    )


def _kind(path: Path) -> str:
    if path.is_dir():
        image_files.listing(path)  # says what is wrong before a network is loaded
        return "folder"
    if path.suffix == ".npz":
        if not path.is_file():
            raise DataError(f"{path} is missing")
        return "npz"
    raise UsageError(f"{path} is neither a folder of images nor an .npz file")

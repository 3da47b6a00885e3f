"""Distance between two folders or files, and statistics of a folder, by a network's features."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.features import image_files, networks
from eval.features.torch_process import TorchFeatures
from eval.metrics import cmmd, feature_statistics, frechet
from harness import files
from harness.base.errors import DataError, UsageError
from harness.base.progress import Progress

INCEPTION: tuple[str, Path | None] = ("inception", None)
SCHEMA = 1  # of the note beside statistics


def compare(
    a: Path, b: Path, *, network: tuple[str, Path | None] = INCEPTION,
    weights: Path | None = None, keep: Path | None = None,
) -> dict[str, Any]:
    """{"fid", "a", "b", "weights_sha256", "official"} of two folders of images or .npz files.

    `network`: whose features, and where its weights are (Inception's: `weights`). Another one's
    distance has the name of its metric in place of "fid"; "figures" are the names, for CLIP with
    CMMD where both are folders.
    `keep`: a folder in which features stay, so that an interrupted call continues. Two .npz files
    need no weights (then "weights_sha256" is None). Errors: UsageError for a path that is
    neither, DataError (images, statistics), EnvironmentFault (weights missing).
    """
    kinds = [_kind(path) for path in (a, b)]
    with contextlib.ExitStack() as stack:
        asked = None
        if "folder" in kinds:
            asked = stack.enter_context(networks.in_torch(network[0], weights or network[1]))
        found, embeddings = [], []
        for side, path, kind in zip("ab", (a, b), kinds, strict=True):
            if asked is None or kind == "npz":
                found.append(feature_statistics.load(path))
                continue
            blocks = _features(asked, path, "none", keep / side if keep else None)
            if network[0] == "clip":
                embeddings.append(np.concatenate(list(blocks)))
                blocks = iter(embeddings[-1:])
            found.append(feature_statistics.of_features(blocks))
    figures = {"fid": frechet.distance(*found)}
    if network[0] != "inception":
        figures = {f"fd_{network[0]}": figures["fid"]}
        if len(embeddings) == 2:
            figures["cmmd"] = cmmd.cmmd(*embeddings)
    return {
        **figures, **({} if "fid" in figures else {"figures": list(figures)}),
        "a": str(a), "b": str(b),
        "n": [one.count for one in found],
        "weights_sha256": asked.sha256 if asked else None,
        "official": asked.official if asked else True,
    }


def write_statistics(
    folder: Path, output: Path, *, preparation: str, with_features: bool = False,
    network: tuple[str, Path | None] = INCEPTION, weights: Path | None = None,
    keep: Path | None = None,
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
    with networks.in_torch(network[0], weights or network[1]) as asked:
        stored: list[np.ndarray] = []

        def blocks() -> Iterator[np.ndarray]:
            for block in _features(asked, folder, preparation, blocks_folder):
                if with_features:
                    stored.append(block)
                yield block

        found = feature_statistics.of_features(blocks())
        made = {
            "schema": SCHEMA, "images": str(folder), "count": found.count,
            "preparation": preparation, "features": asked.describe(),
        }
    files.atomic_write_json(output.with_name(output.name + ".json"), made)
    feature_statistics.save(output, found, features=np.concatenate(stored) if stored else None)
    if keep is None:
        shutil.rmtree(blocks_folder, ignore_errors=True)


def _features(
    network: TorchFeatures, folder: Path, preparation: str, keep: Path | None
) -> Iterator[np.ndarray]:
    """Features of every image in `folder`, block by block; in `keep` if given, so resumable."""
    paths = image_files.listing(folder)
    with contextlib.ExitStack() as stack:
        if keep is None:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="features-"))
            keep = Path(temporary) / "blocks"
        shown = stack.enter_context(Progress(len(paths), f"features of {folder}", unit="image"))
        yield from network.extract_files(
            paths, keep, preparation=preparation, on_block=shown.advance)


def _kind(path: Path) -> str:
    if path.is_dir():
        image_files.listing(path)  # says what is wrong before a network is loaded
        return "folder"
    if path.suffix == ".npz":
        if not path.is_file():
            raise DataError(f"{path} is missing")
        return "npz"
    raise UsageError(f"{path} is neither a folder of images nor an .npz file")

"""Build the embedded `digits` data in coco256_features' format, evaluation's needs included.

    DIR/{train,val}/{i}.npy      float32 [2,8,8]   moments: mean and log-variance of 1 channel
                    {i}_{k}.npy  float32 [12,64]   context of caption k of image i
                    captions.jsonl                 {"image", "caption", "text", "label"} a line
        {train,val}_images.npy   uint8 [N,64,64,3]
        empty_context.npy        float32 [12,64]
        run_vis/{i}.npy          object (prompt, context), ten prompts
        reference.npz            mu, sigma of the val images' features
        features.safetensors, vae/, text_encoder/, tokenizer/
        dataset.json             written last: what it is and what made it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.features.digits import DigitsFeatures
from harness import files, runs
from harness.base.errors import DataError, UsageError
from harness.base.progress import Progress
from harness.digits import pictures
from models.pretrained import autoencoder, text_encoder

ASSETS = Path(__file__).parent / "assets"
DESCRIPTION = "dataset.json"
SCHEMA = 1
_BATCH = 50


def build(directory: Path | str) -> Path:
    """Make the data set at `directory`; returns it. Nothing is done if it is there already.

    It is made in a hidden sibling and renamed when complete, so `directory` is
    whole or absent, and a killed build is begun afresh by the next call.

    UsageError if `directory` holds something else, DataError if what is there
    was made from other assets, EnvironmentFault if it cannot be written or
    another process is making it.
    """
    directory = Path(directory).absolute()
    workplace = directory.parent / f".{directory.name}.building"
    with runs.locked(workplace):
        try:
            if not _is_there(directory):
                _make(directory, workplace / "data")
        finally:  # only a kill leaves it behind, for the next call
            shutil.rmtree(workplace, ignore_errors=True)
    return directory


def _make(directory: Path, work: Path) -> None:
    with files.writing(directory):
        shutil.rmtree(work, ignore_errors=True)
        with Progress(pictures.COUNT, "digits", unit="images") as progress:
            _fill(work, progress)
        os.sync()  # one flush for ten thousand small files
        work.rename(directory)
        files.fsync_directory(directory.parent)


def assets_digest() -> str:
    """SHA-256 over the names and contents of the assets that the data are made with."""
    digest = hashlib.sha256()
    for path in sorted(path for path in ASSETS.rglob("*") if path.is_file()):
        name = path.relative_to(ASSETS).as_posix()
        digest.update(f"{name}\0{files.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _is_there(directory: Path) -> bool:
    """Whether the data set is complete there; False if the place is free."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    described = directory / DESCRIPTION
    if not described.is_file():
        raise UsageError(
            f"{directory} exists and holds something else", remedy="choose a new directory"
        )
    found = files.read_json(described)
    if not isinstance(found, dict) or found.get("dataset") != "digits":
        raise UsageError(f"{directory} holds another data set", remedy="choose a new directory")
    files.refuse_newer(found, SCHEMA, described)
    if found.get("schema") != SCHEMA or found.get("assets") != assets_digest():
        raise DataError(
            f"the digits at {directory} were made by another version of the harness",
            remedy="choose a new directory, or remove that one",
        )
    return True


def _fill(folder: Path, progress: Progress) -> None:
    folder.mkdir()
    for asset in ASSETS.iterdir():
        copy = shutil.copytree if asset.is_dir() else shutil.copyfile
        copy(asset, folder / asset.name)
    images, labels = pictures.load()
    contexts = _contexts(text_encoder.load(folder / "text_encoder"))
    vae = autoencoder.load(folder / "vae")
    described: dict[str, Any] = {"latent_scale": vae.scaling_factor}
    for name, members in pictures.split(labels).items():
        _write_split(folder / name, members, labels, contexts)
        pixels = pictures.rgb(images[members])
        _save(folder / f"{name}_images.npy", pixels)
        for k, moments in enumerate(_moments(vae, pixels)):
            _save(folder / name / f"{k}.npy", moments)
            progress.advance()
        described[name] = len(members)
    _write_prompts(folder, contexts)
    _write_reference(folder)
    files.atomic_write_json(
        folder / DESCRIPTION,
        {"dataset": "digits", "schema": SCHEMA, "assets": assets_digest(), **described},
    )


def _contexts(encoder: Any) -> dict[str, np.ndarray]:
    """The context of every caption there is, and of the empty one."""
    texts = [text for digit in range(10) for text in pictures.captions_of(digit)]
    # one fixed list in fixed batches: no context depends on which images need it
    return dict(zip([*texts, ""], encoder.encode([*texts, ""]), strict=True))


def _moments(vae: Any, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Moments float32 [2,8,8] of each of the uint8 [N,64,64,3] images, in order."""
    for start in range(0, len(pixels), _BATCH):
        block = pixels[start : start + _BATCH].astype(np.float32) / 127.5 - 1
        yield from vae.encode_moments(np.ascontiguousarray(block.transpose(0, 3, 1, 2)))


def _write_split(
    folder: Path, members: np.ndarray, labels: np.ndarray, contexts: dict[str, np.ndarray]
) -> None:
    folder.mkdir()
    lines = []
    for image, member in enumerate(members):
        label = int(labels[member])
        for k, text in enumerate(pictures.captions(int(member), label)):
            _save(folder / f"{image}_{k}.npy", contexts[text])
            lines.append(
                json.dumps({"image": image, "caption": k, "text": text, "label": label}) + "\n"
            )
    (folder / "captions.jsonl").write_text("".join(lines))


def _write_prompts(folder: Path, contexts: dict[str, np.ndarray]) -> None:
    _save(folder / "empty_context.npy", contexts[""])
    (folder / "run_vis").mkdir()
    for digit in range(10):
        prompt = pictures.captions_of(digit)[0]
        pair = np.array([prompt, contexts[prompt]], dtype=object)
        np.save(folder / "run_vis" / f"{digit}.npy", pair, allow_pickle=True)


def _write_reference(folder: Path) -> None:
    images = files.load_npy(folder / "val_images.npy")
    features = DigitsFeatures.load(folder).extract(images)
    # BLAS differs in the last bits from one processor to another; nine decimals of
    # figures near 1 do not, so the file and its digest are the same everywhere
    mu, sigma = np.round(features.mean(0), 9), np.round(np.cov(features, rowvar=False), 9)
    np.savez(folder / "reference.npz", mu=mu, sigma=sigma)


def _save(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)

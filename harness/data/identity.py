"""Which data it is: the digests that runs record, the same for the plain and the packed form."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import HarnessError
from harness.data.digests import data_digest, row_checksum
from harness.data.features import Split
from harness.data.packed_reading import PackedSplit
from harness.data.samples import Source

SCHEMA = 1
RECORD = "digest.json"  # written by `harness data check --full` beside the plain form
_SAMPLED = 64  # images whose content goes into the sampled digest


def sampled_digest(split: Split, empty: np.ndarray) -> str:
    """SHA-256 (hex) of the numbering, empty_context and up to 64 images with their captions.

    Cheap enough for every start: it tells other data from this, not damage.
    """
    digest = hashlib.sha256(np.array(split.captions, "<i4"))
    digest.update(np.ascontiguousarray(empty, "<f4"))
    for image in sampled_images(len(split)):
        digest.update(row_checksum(split.moments(image)))
        for caption in range(split.captions[image]):
            digest.update(row_checksum(split.context(image, caption)))
    return digest.hexdigest()


def sampled_images(total: int) -> list[int]:
    """Numbers of the images whose content goes into the sampled digest."""
    count = min(_SAMPLED, total)
    return [position * total // count for position in range(count)]


def describe(directory: Path, source: Source) -> dict[str, Any]:
    """What run.json says of the data.

    `digest` is of all that training reads: known for the packed form, and for the
    plain one once `harness data check --full` has read it and nothing has changed
    since; else None. `sampled_digest` is always there. Both are the same for the
    plain form and the packed one made of it (float32).
    """
    split = source.split
    digest = (
        data_digest(split.digest, source.empty) if isinstance(split, PackedSplit)
        else recorded(directory)
    )
    return {
        "directory": str(Path(directory).resolve()),
        "form": split.form,
        "context_dtype": split.context_dtype,
        "images": len(split),
        "captions": sum(split.captions),
        "sampled_digest": sampled_digest(split, source.empty),
        "digest": digest,
    }


def record(directory: Path, digest: str, splits: dict[str, str]) -> None:
    """Note the digest of the plain form, with what tells later that no file has changed."""
    found = {"schema": SCHEMA, "digest": digest, "splits": splits, "listing": listing(directory)}
    files.atomic_write_json(Path(directory) / RECORD, found)


def recorded(directory: Path) -> str | None:
    """The noted digest of the plain form in `directory`; None if none, or if files changed.

    NewerFile if a newer harness noted it.
    """
    path = Path(directory) / RECORD
    if not path.is_file():
        return None
    try:
        found = files.read_json(path)
    except HarnessError:
        return None
    files.refuse_newer(found, SCHEMA, path)
    if not isinstance(found, dict) or found.get("listing") != listing(directory):
        return None
    digest = found.get("digest")
    return digest if isinstance(digest, str) else None


def listing(directory: Path) -> str:
    """SHA-256 (hex) of names, sizes and times of change of what training reads (2 us a file)."""
    lines = sorted(_stamps(Path(directory)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _stamps(directory: Path) -> Iterator[str]:
    with os.scandir(directory / "train") as entries:
        for entry in entries:
            if entry.name.endswith(".npy"):
                yield _stamp(entry.name, entry.stat)
    empty = directory / "empty_context.npy"
    yield _stamp(empty.name, empty.stat)


def _stamp(name: str, stat: Callable[[], os.stat_result]) -> str:
    try:
        found = stat()
    except OSError:
        return f"{name} missing"
    return f"{name} {found.st_size} {found.st_mtime_ns}"

"""The packed form of a split: every row of a kind in a few .npy files, found by its number.

    packed.json                  what is in it: shapes, dtypes, files, digests
    train/captions.npy           int32 [N]           captions of each image
    train/moments-00000.npy ...  float32 [n, 2C,h,w] images 0, 1, ... in order
    train/contexts-00000.npy ... float32 or float16 [n, T, D]  captions in order of (image, caption)
    train/moments-xxh3.npy, train/contexts-xxh3.npy  uint8 [rows, 16]  XXH3-128 of each row
    val/  the same; empty_context.npy, run_vis/ and whatever else the plain form has

A row is had by pread, straight into a batch: one request for a row that is not in the
page cache, where a mapping would fault in a few pages at a time. A disk's error, or a
file cut short meanwhile, is an error, where a mapping would kill the process (SIGBUS).
Every row is held against its checksum the first time a process reads it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.data import digests
from harness.data.features import Split, npy_header

MANIFEST = "packed.json"
SCHEMA = 1
KINDS = ("moments", "contexts")
_MOST_FAULTS = 100
_REMEDY = "pack it again, or copy it again from where it was packed"


def is_packed(directory: Path) -> bool:
    """Whether `directory` holds the packed form."""
    return (directory / MANIFEST).is_file()


def manifest(directory: Path) -> dict[str, Any]:
    """packed.json, checked for what reading relies on; DataError if it is not sound."""
    path = directory / MANIFEST
    found = files.read_json(path, remedy=_REMEDY)
    files.refuse_newer(found, SCHEMA, path)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a packed data set of schema {SCHEMA}", remedy=_REMEDY)
    splits = found.get("splits")
    sound = found.get("context_dtype") in ("float32", "float16") and isinstance(
        splits, dict) and all(isinstance(entry, dict) for entry in splits.values())
    for key, length in (("moments_shape", 3), ("context_shape", 2)):
        shape = found.get(key)
        sound = sound and isinstance(shape, list) and len(shape) == length and all(
            type(size) is int and 0 < size <= 1 << 20 for size in shape
        )
    if not sound:
        raise DataError(f"{path} lacks its shapes, dtype or splits", remedy=_REMEDY)
    return found


class Rows:
    """Rows of one kind in numbered shards; reads any of them by number. Thread-safe.

    `checksums`: uint8 [n, 16], XXH3-128 of each row's bytes as stored.
    """

    def __init__(self, folder: Path, kind: str, dtype: str, shape: tuple[int, ...],
                 per_shard: int, checksums: np.ndarray):
        self.dtype, self.shape = np.dtype(dtype), shape
        self._row = int(np.prod(shape)) * self.dtype.itemsize
        self._per_shard, self._checksums = per_shard, checksums
        self._seen = bytearray(len(checksums))
        self._shards: list[_Shard] = []
        for first in range(0, len(checksums), per_shard):
            rows = min(per_shard, len(checksums) - first)
            path = folder / shard_name(kind, first // per_shard)
            self._shards.append(_open_shard(path, self.dtype, (rows, *shape)))

    def __len__(self) -> int:
        return len(self._checksums)

    def read(self, number: int, out: np.ndarray) -> None:
        """Fill float32 `out` with row `number`; DataError if its checksum does not match."""
        if out.dtype == self.dtype:
            self.read_stored(number, out)
            return
        stored = np.empty(self.shape, self.dtype)
        self.read_stored(number, stored)
        np.copyto(out, stored)

    def read_stored(self, number: int, out: np.ndarray, *, verify: bool = False) -> None:
        """Fill `out` (this kind's dtype) with row `number` as stored.

        Its checksum is compared on the first read, or on every one with `verify`.
        """
        shard = self._shards[number // self._per_shard]
        offset = shard.start + (number % self._per_shard) * self._row
        try:
            count = os.preadv(shard.descriptor, [out], offset)
        except OSError as error:
            raise DataError(f"cannot read {shard.path}: {error.strerror}") from error
        if count != self._row:
            raise DataError(f"{shard.path} is truncated in row {number}", remedy=_REMEDY)
        if verify or not self._seen[number]:
            self._verify(number, out)

    def _verify(self, number: int, row: np.ndarray) -> None:
        if digests.row_checksum(row) != self._checksums[number].tobytes():
            raise DataError(
                f"{self._shards[number // self._per_shard].path}: row {number % self._per_shard} "
                "does not match its checksum", remedy=_REMEDY,
            )
        self._seen[number] = 1


@dataclass(frozen=True)
class _Shard:
    path: Path
    descriptor: int
    start: int  # offset of the first row, bytes

    def __del__(self) -> None:
        os.close(self.descriptor)


def shard_name(kind: str, number: int) -> str:
    """File name of a kind's shard."""
    return f"{kind}-{number:05d}.npy"


def _open_shard(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> _Shard:
    header = npy_header(dtype.str, shape)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # not a pipe
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", remedy=_REMEDY) from error
    try:
        size = len(header) + int(np.prod(shape)) * dtype.itemsize
        found = os.fstat(descriptor).st_size
        if found != size:
            raise DataError(f"{path} has {found} bytes, expected {size}", remedy=_REMEDY)
        if os.pread(descriptor, len(header), 0) != header:
            raise DataError(f"{path} has another header than {MANIFEST} says", remedy=_REMEDY)
        # Rows are read in random order: reading on would fetch what nobody asked for.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    except (DataError, OSError) as error:
        os.close(descriptor)
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {error.strerror}", remedy=_REMEDY) from error
    return _Shard(path, descriptor, len(header))


def shard_faults(folder: Path, found: dict[str, Any]) -> list[str]:
    """What is wrong with the sizes and headers of a split's shards, `_MOST_FAULTS` at most.

    A forged packed.json counts more shards than a disk can hold.
    """
    faults = []
    entry = found["splits"][folder.name]
    dtypes = "<f4", np.dtype(found["context_dtype"]).newbyteorder("<").str
    totals = entry.get("images"), entry.get("captions")
    for kind, dtype, shape, rows in zip(
        KINDS, dtypes, (found["moments_shape"], found["context_shape"]), totals, strict=True
    ):
        try:
            per_shard = _positive(entry, f"{kind}_per_shard", folder)
            for first in range(0, rows if type(rows) is int else 0, per_shard):
                path = folder / shard_name(kind, first // per_shard)
                try:
                    _open_shard(path, np.dtype(dtype), (min(per_shard, rows - first), *shape))
                except DataError as error:
                    faults.append(error.message)
                    if len(faults) >= _MOST_FAULTS:
                        return faults
        except DataError as error:
            faults.append(error.message)
    return faults


@dataclass(frozen=True)
class PackedSplit(Split):
    """A `Split` read from the packed form; the same numbers, the same bits."""

    offsets: np.ndarray = field(repr=False)  # int64 [N]: row of each image's caption 0
    rows_moments: Rows = field(repr=False)
    rows_contexts: Rows = field(repr=False)
    digest: str = ""
    context_dtype: str = "float32"

    form = "packed"

    def read_moments(self, image: int, out: np.ndarray) -> None:
        self.rows_moments.read(image, out)

    def read_context(self, image: int, caption: int, out: np.ndarray) -> None:
        self.rows_contexts.read(self._row(image, caption), out)

    def _row(self, image: int, caption: int) -> int:
        if not 0 <= caption < self.captions[image]:
            raise IndexError(f"image {image} has no caption {caption}")
        return int(self.offsets[image]) + caption


def open_split(
    directory: Path, split: str, *, moments_shape: tuple[int, ...],
    context_shape: tuple[int, ...],
) -> PackedSplit:
    """Open a packed split; DataError if it is damaged or of other shapes than asked for."""
    found = manifest(directory)
    for key, expected in (("moments_shape", moments_shape), ("context_shape", context_shape)):
        if tuple(found[key]) != tuple(expected):
            what = "moments" if key == "moments_shape" else "contexts"
            raise DataError(
                f"{directory} holds {what} of shape {found[key]}, expected {list(expected)}"
            )
    if split not in found["splits"]:
        raise EnvironmentFault(
            f"{directory} has no {split} split",
            remedy="pack it again from a data set that has it",
        )
    return _open(directory / split, found, found["splits"][split])


def _open(folder: Path, whole: dict[str, Any], entry: Any) -> PackedSplit:
    per_shard = [_positive(entry, f"{kind}_per_shard", folder) for kind in KINDS]
    counts = files.load_npy(folder / "captions.npy", dtype="int32")
    tables = [files.load_npy(folder / f"{kind}-xxh3.npy", dtype="uint8") for kind in KINDS]
    shapes = tuple(whole["moments_shape"]), tuple(whole["context_shape"])
    dtypes = "<f4", np.dtype(whole["context_dtype"]).newbyteorder("<").str
    digest = digests.split_digest(*shapes, whole["context_dtype"], counts, *tables)
    if digest != entry.get("digest"):
        raise DataError(f"the tables in {folder} do not match {MANIFEST}", remedy=_REMEDY)
    moments, contexts = (
        Rows(folder, *of) for of in zip(KINDS, dtypes, shapes, per_shard, tables, strict=True)
    )
    ends = np.cumsum(counts, dtype=np.int64)
    return PackedSplit(
        folder, tuple(counts.tolist()), *shapes, ends - counts, moments, contexts, digest,
        whole["context_dtype"],
    )


def _positive(entry: Any, key: str, folder: Path) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int or value <= 0:
        raise DataError(f"{folder.parent / MANIFEST} has no {key} for {folder.name}",
                        remedy=_REMEDY)
    return value

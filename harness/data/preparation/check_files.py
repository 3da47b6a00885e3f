"""Checking one split, file by file (plain) or row by row (packed), on a few threads."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness import files
from harness.base.ahead import ahead
from harness.base.errors import DataError
from harness.base.progress import Progress
from harness.data import digests, features, identity
from harness.data.packed_reading import PackedSplit

SAMPLED = 256  # images whose content is read without `full`
_BLOCK = 32  # images a task
_MOST_LOG_VARIANCE = 20.0  # beyond it, sampling clamps


@dataclass
class Statistics:
    """Sums over latents drawn from moments: count, E[z], E[z^2] (float64)."""

    count: int = 0
    first: float = 0.0
    second: float = 0.0

    def add(self, moments: np.ndarray) -> None:
        mean, log_variance = np.split(moments.astype(np.float64), 2)
        self.count += mean.size
        self.first += float(mean.sum())
        self.second += float((mean**2 + np.exp(np.clip(log_variance, -30.0, 20.0))).sum())

    def merge(self, other: Statistics) -> None:
        self.count += other.count
        self.first += other.first
        self.second += other.second

    def std(self) -> float:
        """Standard deviation of unscaled latents."""
        mean = self.first / self.count
        return float(np.sqrt(max(self.second / self.count - mean**2, 0.0)))


@dataclass
class Found:
    """What was found in one split.

    `expected`: captions that the numbering calls for; `read`: images whose content was read.
    """

    images: int = 0
    captions: int = 0
    expected: int = 0
    read: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    digest: str | None = None


def common_shapes(
    directory: Path, names: list[str]
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Shapes (moments, context) that most of a sample of files have; None if none can be read."""
    votes: tuple[Counter, Counter] = (Counter(), Counter())
    for name in names:
        listing = _list(directory / name)
        for kind, numbers in enumerate((listing.images.reshape(-1, 1), listing.pairs)):
            for row in numbers[:: max(1, len(numbers) // 25)].tolist():
                try:
                    array = files.load_npy(directory / name / features.file_name(*row))
                except DataError:
                    continue
                if array.ndim == 3 - kind:
                    votes[kind][array.shape] += 1
    best = [v.most_common(1)[0][0] if v else None for v in votes]
    return best[0], best[1]


def _list(folder: Path) -> features.Listing:
    with os.scandir(folder) as entries:
        return features.listing_of(folder, (entry.name for entry in entries))


def check_split(folder: Path, moments_shape: tuple[int, ...], context_shape: tuple[int, ...],
                *, full: bool) -> Found:
    """Check a plain split: names, numbering, sizes; content of all (`full`) or of a sample."""
    listing = _list(folder)
    found = Found(images=len(listing.images), captions=len(listing.pairs))
    missing, strays = features.missing_files(listing), features.strays(listing)
    found.expected = found.captions + sum("_" in n for n in missing) - sum("_" in n for n in strays)
    # One fault a file: the first thing that is wrong with it.
    bad = {name: "is missing" for name in missing}
    bad |= {name: "is out of the numbering" for name in strays}
    shapes = {1: moments_shape, 2: context_shape}
    _check_entries(folder, shapes, bad)
    there = [(int(i), -1) for i in listing.images] + [tuple(p) for p in listing.pairs.tolist()]
    there = sorted(p for p in there if features.file_name(*p) not in bad)
    sampled = _sample(listing.images, full)
    numbers = there if full else [p for p in there if p[0] in sampled]
    found.read = len({image for image, _ in numbers})
    sums = _read_all(folder, numbers, shapes, bad, found.statistics)
    found.faults = [(str(folder / name), what) for name, what in sorted(bad.items(), key=_order)]
    if full and not bad:
        found.digest = _digest(listing, moments_shape, context_shape, sums)
    return found


def _sample(images: np.ndarray, full: bool) -> set[int]:
    if full or len(images) <= SAMPLED:
        return set(images.tolist())
    spread = np.linspace(0, len(images) - 1, SAMPLED).astype(int)
    # What the sampled digest reads is read here first, so that its faults are listed.
    return set(images[spread].tolist()) | set(identity.sampled_images(len(images)))


def _order(item: tuple[str, str]) -> tuple:
    parts = item[0].removesuffix(".npy").split("_")
    return tuple((0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts)


def _check_entries(folder: Path, shapes: dict[int, tuple[int, ...]], bad: dict[str, str]) -> None:
    """Kinds and sizes of all directory entries: foreign .npy names, truncated and odd files."""
    sizes = {
        parts: len(features.npy_header("<f4", shape)) + 4 * int(np.prod(shape))
        for parts, shape in shapes.items()
    }
    with os.scandir(folder) as entries:
        for entry in entries:
            if ".npy" not in entry.name or entry.name in bad:
                continue
            one = features.listing_of(folder, [entry.name])
            parts = 1 if len(one.images) else 2 if len(one.pairs) else 0
            what = _odd_entry(entry, shapes.get(parts), sizes.get(parts))
            if what:
                bad[entry.name] = what


def _odd_entry(
    entry: os.DirEntry, shape: tuple[int, ...] | None, size: int | None
) -> str | None:
    if shape is None or size is None:
        return "is not a feature file's name (0.npy, 0_0.npy, ...)"
    try:
        status = entry.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size == size:
        return None
    path = Path(entry.path)
    try:
        files.load_npy(path, dtype="float32", shape=shape, exact=True)
    except DataError as error:
        return reason(error, path)
    return None


def _read_all(
    folder: Path, numbers: list[tuple[int, ...]], shapes: dict[int, tuple[int, ...]],
    bad: dict[str, str], statistics: Statistics,
) -> dict[tuple[int, ...], bytes]:
    """Read files by number; their checksums. Faults go into `bad`, sums into `statistics`."""

    def task(block: list[tuple[int, ...]]) -> tuple[dict, dict, Statistics]:
        sums, faults, part = {}, {}, Statistics()
        for image, caption in block:
            name = features.file_name(image, caption)
            array = np.empty(shapes[1 if caption < 0 else 2], np.float32)
            try:
                features.read_into(folder / name, array)
                what = implausible(array, moments=caption < 0)
            except DataError as error:
                what = reason(error, folder / name)
            if what:
                faults[name] = what
                continue
            sums[image, caption] = digests.row_checksum(array)
            if caption < 0:
                part.add(array)
        return sums, faults, part

    sums: dict[tuple[int, ...], bytes] = {}
    for found, faults, part in _on_threads(task, numbers, f"check {folder.name}"):
        sums.update(found)
        bad.update(faults)
        statistics.merge(part)
    return sums


def implausible(array: np.ndarray, *, moments: bool) -> str | None:
    """What finite values cannot be: all the same, or a log variance that sampling would clamp."""
    if array.size > 1 and array.min() == array.max():
        return f"holds {array.flat[0]:g} everywhere"
    if moments and array[len(array) // 2 :].max() > _MOST_LOG_VARIANCE:
        return f"has a log variance above {_MOST_LOG_VARIANCE:g}"
    return None


def _on_threads(task: Callable[[list], tuple], numbers: list, label: str) -> Iterator[tuple]:
    blocks = [numbers[at : at + _BLOCK] for at in range(0, len(numbers), _BLOCK)]
    with Progress(len(numbers), label, unit="file") as progress:
        for block, found in zip(blocks, ahead(task, blocks), strict=True):
            yield found
            progress.advance(len(block))


def _digest(listing: features.Listing, moments_shape: tuple[int, ...],
            context_shape: tuple[int, ...], sums: dict[tuple[int, ...], bytes]) -> str:
    counts = np.bincount(listing.pairs[:, 0], minlength=len(listing.images))
    tables = [
        np.frombuffer(b"".join(sums[key] for key in keys), np.uint8).reshape(-1, 16)
        for keys in (
            [(int(i), -1) for i in listing.images], [tuple(p) for p in listing.pairs.tolist()]
        )
    ]
    return digests.split_digest(moments_shape, context_shape, "float32", counts, *tables)


def check_rows(split: PackedSplit, *, full: bool) -> Found:
    """Check a packed split: every row against its checksum (`full`), or a sample's."""
    found = Found(images=len(split), captions=sum(split.captions), expected=sum(split.captions))
    images = sorted(_sample(np.arange(len(split)), full))
    found.read = len(images)

    def task(block: list[int]) -> tuple[list[tuple[str, str]], Statistics]:
        faults, part = [], Statistics()
        for image in block:
            faults += _check_image(split, image, part)
        return faults, part

    for faults, part in _on_threads(task, images, f"check {split.directory.name}"):
        found.faults += faults
        found.statistics.merge(part)
    return found


def _check_image(
    split: PackedSplit, image: int, statistics: Statistics
) -> list[tuple[str, str]]:
    faults = []
    offset = int(split.offsets[image])
    for caption in range(-1, split.captions[image]):
        rows = split.rows_moments if caption < 0 else split.rows_contexts
        array = np.empty(rows.shape, rows.dtype)
        name = f"{split.directory}: {features.file_name(image, caption).removesuffix('.npy')}"
        try:
            rows.read_stored(image if caption < 0 else offset + caption, array, verify=True)
        except DataError as error:
            faults.append((name, error.message))
            continue
        what = implausible(array, moments=caption < 0)
        if not np.isfinite(array).all():
            what = "holds NaN or infinite values"
        if what:
            faults.append((name, what))
        elif caption < 0:
            statistics.add(array)
    return faults


def reason(error: DataError, path: Path) -> str:
    """An error's text without the file's name in front, which the list of faults has already."""
    return error.message.removeprefix(f"{path} ").removeprefix(f"cannot read {path}: ")

"""coco256_features on disk: a split's files, empty_context and run_vis.

    train/{i}.npy      float32 [2C, h, w]   moments (mean, log variance) of image i
    train/{i}_{k}.npy  float32 [T, D]       text features of its caption k
    val/               the same
    empty_context.npy  float32 [T, D]
    run_vis/{i}.npy    object array (prompt, context)
"""

from __future__ import annotations

import io
import os
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness import files
from harness.base.errors import DataError, EnvironmentFault

_MOST_CAPTIONS = 10_000  # of one image; COCO has 5 to 7
# A feature file's name, one spelling a number: '07.npy' would be image 7 a second time.
_NAME = re.compile(r"(0|[1-9][0-9]{0,8})(?:_(0|[1-9][0-9]{0,5}))?\.npy")


@dataclass(frozen=True)
class Split:
    """One split (train or val): moments of image i, contexts of its captions k.

    `captions[i]`: number of captions of image i. Shapes: moments [2C, h, w] float32
    (mean, log variance), context [T, D] float32.
    """

    directory: Path
    captions: tuple[int, ...]
    moments_shape: tuple[int, ...]
    context_shape: tuple[int, ...]

    form = "plain"
    context_dtype = "float32"

    def __len__(self) -> int:
        return len(self.captions)

    def read_moments(self, image: int, out: np.ndarray) -> None:
        """Fill `out` (float32 [2C, h, w], C-contiguous) with image's moments."""
        read_into(self._path(f"{image}.npy"), out)

    def read_context(self, image: int, caption: int, out: np.ndarray) -> None:
        """Fill `out` (float32 [T, D], C-contiguous) with a caption's text features."""
        read_into(self._path(f"{image}_{caption}.npy"), out)

    def _path(self, name: str) -> str:
        # No Path: it interns every name, and Python's table of interned strings keeps a place of
        # each that is gone until it is made anew, twice as large (16 names a step: 7.5 MB more).
        return os.path.join(self.directory, name)

    def moments(self, image: int) -> np.ndarray:
        """Mean and log variance of image's latents, float32 [2C, h, w]."""
        out = np.empty(self.moments_shape, np.float32)
        self.read_moments(image, out)
        return out

    def context(self, image: int, caption: int) -> np.ndarray:
        """Text features of one caption, float32 [T, D]."""
        out = np.empty(self.context_shape, np.float32)
        self.read_context(image, caption, out)
        return out


@dataclass(frozen=True)
class Listing:
    """The numbers in a split's file names: `images` int64 [n], `pairs` int64 [m, 2], sorted."""

    folder: Path
    images: np.ndarray
    pairs: np.ndarray


def list_features(folder: Path) -> Listing:
    """The feature files in `folder`; other names are passed over.

    EnvironmentFault if it cannot be read, DataError if it holds none.
    """
    try:
        with os.scandir(folder) as entries:
            listing = listing_of(folder, (entry.name for entry in entries))
    except OSError as error:
        raise EnvironmentFault(
            f"training data {folder} cannot be read: {error.strerror}",
            remedy="give --data DIR; `harness data digits DIR` makes a small set, `harness data "
            "fetch DIR` gets coco256_features",
        ) from error
    if not len(listing.images):
        raise DataError(f"{folder} holds no features (0.npy, 0_0.npy, ...)")
    return listing


def listing_of(folder: Path, names: Iterable[str]) -> Listing:
    """The numbers in those of `names` that are feature files' (620,000 names: 10 MB)."""
    images, owners, captions = array("q"), array("q"), array("q")
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        if match[2] is None:
            images.append(int(match[1]))
        else:
            owners.append(int(match[1]))
            captions.append(int(match[2]))
    pairs = np.stack([np.array(owners, np.int64), np.array(captions, np.int64)], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Listing(folder, np.sort(np.array(images, np.int64)), pairs[order])


def count_captions(listing: Listing) -> tuple[int, ...]:
    """Captions of each image; DataError naming the first file that is missing."""
    missing, foreign = missing_files(listing), strays(listing)
    if missing or foreign:
        what = (
            f"{missing[0]} is missing (images there: {len(listing.images)})" if missing
            else f"{foreign[0]} is out of the numbering"
        )
        raise DataError(
            f"{listing.folder}/{what}",
            remedy="`harness data check DIR` lists everything that is wrong",
        )
    counts = np.bincount(listing.pairs[:, 0], minlength=len(listing.images))
    return tuple(counts.tolist())


def missing_files(listing: Listing) -> list[str]:
    """Names of the files that the numbering calls for and that are not there, in order.

    Images are numbered 0..N-1 where N-1 is the largest number that has a file;
    captions of an image 0..K-1 with K at least 1. Numbers far beyond the count of
    images call for nothing (see `strays`): one odd name must not make millions.
    """
    near = plausible(listing)
    images = listing.images[listing.images < near]
    pairs = listing.pairs[(listing.pairs[:, 0] < near) & (listing.pairs[:, 1] < _MOST_CAPTIONS)]
    total = int(max([-1, *images[-1:], *pairs[-1:, 0]])) + 1
    counts = np.bincount(pairs[:, 0], minlength=total)
    highest = np.full(total, -1, np.int64)
    np.maximum.at(highest, pairs[:, 0], pairs[:, 1])
    named = [(int(i), -1) for i in np.setdiff1d(np.arange(total), images)]
    for image in np.flatnonzero((counts == 0) | (highest + 1 != counts)).tolist():
        first = np.searchsorted(pairs[:, 0], image)
        there = set(pairs[first : first + counts[image], 1].tolist())
        wanted = range(max(1, int(highest[image]) + 1))
        named += [(image, k) for k in wanted if k not in there]
    return [file_name(image, caption) for image, caption in sorted(named)]


def strays(listing: Listing) -> list[str]:
    """Names whose numbers cannot belong to the set: far beyond its count of images or captions."""
    near = plausible(listing)
    found = [(int(i), -1) for i in listing.images[listing.images >= near]]
    odd = (listing.pairs[:, 0] >= near) | (listing.pairs[:, 1] >= _MOST_CAPTIONS)
    found += list(listing.pairs[odd].tolist())
    return [file_name(image, caption) for image, caption in sorted(found)]


def plausible(listing: Listing) -> int:
    """Image numbers from here on are not gaps in the numbering but foreign files."""
    return 2 * len(listing.images) + 1000


def file_name(image: int, caption: int = -1) -> str:
    """Name of the file of an image's moments, or of one of its captions' contexts."""
    return f"{image}.npy" if caption < 0 else f"{image}_{caption}.npy"


def empty_context(directory: Path, context_shape: tuple[int, ...]) -> np.ndarray:
    """Text features of the empty caption, float32 [T, D]: what a dropped condition becomes."""
    path = Path(directory) / "empty_context.npy"
    return _finite(files.load_npy(path, dtype="float32", shape=context_shape), path)


def run_vis(directory: Path, context_shape: tuple[int, ...]) -> tuple[list[str], np.ndarray]:
    """The prompts that are sampled while training: texts, and contexts float32 [N, T, D]."""
    read = [read_prompt(path, context_shape) for path in run_vis_files(Path(directory))]
    contexts = [context for _, context in read]
    stacked = np.stack(contexts) if contexts else np.zeros((0, *context_shape), np.float32)
    return [prompt for prompt, _ in read], stacked


def run_vis_files(directory: Path) -> list[Path]:
    """The files of run_vis/, by number."""
    found = [p for p in (directory / "run_vis").glob("*.npy") if re.fullmatch("[0-9]+", p.stem)]
    return sorted(found, key=lambda p: int(p.stem))


def read_prompt(path: Path, context_shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """One run_vis file: the prompt and its context, float32 [T, D]; DataError if it is not that."""
    entry = files.load_object_npy(path)
    if len(entry) != 2 or not isinstance(entry[0], str):
        raise DataError(f"{path} is not a pair (prompt, context)")
    try:
        context = np.asarray(entry[1], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{path} has a context that is not an array of numbers") from error
    if context.shape != context_shape:
        raise DataError(
            f"{path} has a context of shape {list(context.shape)}, expected {list(context_shape)}"
        )
    return str(entry[0]), _finite(context, path)


@lru_cache(maxsize=16)
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes that np.save writes before a C-ordered array of `dtype` and `shape`."""
    buffer = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def read_into(path: Path | str, out: np.ndarray) -> None:
    """Fill float32 `out` from a .npy file of its shape; DataError if that is not what it holds.

    One open and one read where the header is, byte for byte, what np.save writes
    (parsing a header takes longer than reading the data); any other header goes
    the long way.
    """
    expected = npy_header("<f4", out.shape)
    header = bytearray(len(expected))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # not a pipe
        try:
            count = os.readv(descriptor, [header, out])
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if count != len(expected) + out.nbytes or header != expected:
        np.copyto(out, files.load_npy(path, dtype="float32", shape=out.shape))
    _finite(out, path)


def _finite(values: np.ndarray, path: Path | str) -> np.ndarray:
    # 12 us for a context of 59,136 values; reading it takes 40.
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds NaN or infinite values", remedy="extract or fetch it again")
    return values

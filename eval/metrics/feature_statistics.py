"""Mean and covariance of features, streamed in float64: memory O(d^2), whatever N.

Rows are buffered and folded in blocks of a fixed number of rows (Chan, Golub and LeVeque 1983),
so the bits depend on the order of the rows and the block size alone, not on how the rows arrived.
Sums of outer products are symmetric: only their upper triangles are computed and kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError

BLOCK_ROWS = 500  # 8 MB at d = 2048: still in the cache when it is multiplied
_TILE = 256


@dataclass(frozen=True)
class Statistics:
    """Mean `mu` [d] and covariance `sigma` [d, d] (divisor n - 1, as np.cov), float64.

    `count` is the number of samples, None where a file does not say.
    """

    mu: np.ndarray
    sigma: np.ndarray
    count: int | None = None

    @property
    def size(self) -> int:
        return len(self.mu)


@dataclass
class Moments:
    """Count, mean [d] and scatter [d, d] (sum of outer products about the mean) of some rows.

    Of `scatter` only the upper triangle means anything.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def none(cls, size: int) -> Moments:
        """Of no rows: what others are folded into."""
        # Not np.zeros: its pages would come into being one by one within the first product,
        # which takes ten times as long for that.
        return cls(0, np.zeros(size), np.full((size, size), 0.0))

    def fold(self, buffer: np.ndarray) -> None:
        """Fold in all rows of `buffer` but the last, which is room to work in; overwrites it.

        The distance between both means adds an outer product of its own (Chan's update): as one
        more row it costs nothing, and one product in place does everything.
        """
        from scipy.linalg import blas

        rows = buffer[:-1]
        count = self.count + len(rows)
        mean = rows.mean(axis=0)
        delta = mean - self.mean
        rows -= mean
        buffer[-1] = delta * np.sqrt(self.count * len(rows) / count)
        self.scatter = blas.dsyrk(
            1.0, buffer.T, beta=1.0, c=self.scatter.T, lower=1, overwrite_c=1
        ).T
        self.mean += delta * (len(rows) / count)
        self.count = count

    def add(self, other: Moments) -> None:
        """Fold `other` in, in place (Chan's update); the order of the calls fixes the bits."""
        total = self.count + other.count
        delta = other.mean - self.mean
        weighted = delta * (self.count * other.count / total)
        for i, factor in enumerate(weighted):
            row = self.scatter[i, i:]
            row += other.scatter[i, i:]
            row += factor * delta[i:]
        self.mean += delta * (other.count / total)
        self.count = total

    def without(self, part: Moments) -> Moments:
        """The moments of the other rows, where `part` is some of these (Chan's update undone)."""
        count = self.count - part.count
        mean = (self.count * self.mean - part.count * part.mean) / count
        delta = part.mean - mean
        scatter = self.scatter - part.scatter
        scatter -= np.outer(delta * (count * part.count / self.count), delta)
        return Moments(count, mean, scatter)

    def statistics(self) -> Statistics:
        """DataError for fewer than two rows: they have no covariance."""
        if self.count < 2:
            raise DataError(
                f"{self.count} sample(s) have no covariance", remedy="use at least 2 samples"
            )
        sigma = self.scatter / (self.count - 1)
        _mirror(sigma)
        return Statistics(self.mean, sigma, self.count)


def _mirror(matrix: np.ndarray) -> None:
    """Copy the upper triangle of [d, d] onto the lower one, by tiles that fit the cache."""
    for i in range(0, len(matrix), _TILE):
        j = i + _TILE
        matrix[j:, i:j] = matrix[i:j, j:].T
        corner = matrix[i:j, i:j]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T


class Accumulator:
    """Streams feature rows into `Moments`; optionally keeps each block's own, for `intervals`.

    Kept blocks are packed (upper triangle): 17 MB each at d = 2048.
    """

    def __init__(self, size: int, *, block_rows: int = BLOCK_ROWS, keep_blocks: bool = False):
        self._room = np.empty((block_rows + 1, size))  # one more: see `Moments.fold`
        self._buffer = self._room[:-1]
        self._filled = 0
        self._total = Moments.none(size)
        self._keep = keep_blocks
        self.blocks: list[PackedMoments] = []

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [n, d] of any float dtype; DataError for another d or values not finite."""
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self._buffer.shape[1]:
            raise DataError(
                f"features have shape {list(rows.shape)}, expected [n, {self._buffer.shape[1]}]"
            )
        if not np.isfinite(rows).all():
            raise DataError("features hold NaN or infinity")
        while len(rows):
            taken = rows[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rows = rows[len(taken) :]
            if self._filled == len(self._buffer):
                self._fold()

    def _fold(self) -> None:
        rows = self._room[: self._filled + 1]
        self._filled = 0
        if self._keep:
            block = Moments.none(rows.shape[1])
            block.fold(rows)
            self.blocks.append(PackedMoments.of(block))
            self._total.add(block)
        else:
            self._total.fold(rows)

    def finish(self) -> Moments:
        """The moments of all rows so far; more rows may follow."""
        if self._filled:
            self._fold()
        if not self._total.count:
            raise DataError("there are no features")
        return self._total


@dataclass(frozen=True)
class PackedMoments:
    """`Moments` of a block with the scatter as a packed upper triangle, float64."""

    count: int
    mean: np.ndarray
    packed: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> PackedMoments:
        size = len(moments.mean)
        packed = np.empty(size * (size + 1) // 2)
        at = 0
        for i in range(size):
            packed[at : at + size - i] = moments.scatter[i, i:]
            at += size - i
        return cls(moments.count, moments.mean, packed)

    def unpack(self) -> Moments:
        size = len(self.mean)
        scatter = np.zeros((size, size))
        at = 0
        for i in range(size):
            scatter[i, i:] = self.packed[at : at + size - i]
            at += size - i
        return Moments(self.count, self.mean.copy(), scatter)


def of_features(features: np.ndarray | Iterable[np.ndarray]) -> Statistics:
    """Statistics of features [n, d], or of an iterable of such arrays."""
    parts = [features] if isinstance(features, np.ndarray) else features
    accumulator = None
    for part in parts:
        if accumulator is None:
            if part.ndim != 2:
                raise DataError(f"features have shape {list(part.shape)}, expected [n, d]")
            accumulator = Accumulator(part.shape[1])
        accumulator.add(part)
    if accumulator is None:
        raise DataError("there are no features")
    return accumulator.finish().statistics()


def load(path: Path | str, *, size: int | None = None) -> Statistics:
    """Read reference statistics `mu`, `sigma` (.npz of pytorch-fid, U-ViT or `harness stats`).

    DataError if they are missing, of the wrong shapes or another `size` than expected, not
    finite, not symmetric, or have a negative variance.
    """
    arrays = files.load_npz(path, ("mu", "sigma"))
    mu, sigma = arrays["mu"], arrays["sigma"]
    if mu.dtype.kind not in "fiu" or sigma.dtype.kind not in "fiu":
        raise DataError(f"{path}: mu and sigma must be numbers, not {mu.dtype} and {sigma.dtype}")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not len(mu):
        raise DataError(
            f"{path}: mu has shape {list(mu.shape)} and sigma {list(sigma.shape)}, "
            "expected [d] and [d, d]"
        )
    if size is not None and len(mu) != size:
        raise DataError(
            f"{path} holds statistics of {len(mu)} features, these have {size}",
            remedy="use the reference that was made with the same feature network",
        )
    if not np.isfinite(mu).all() or not np.isfinite(sigma).all():
        raise DataError(f"{path} holds NaN or infinity")
    scale = np.abs(sigma).max()
    if np.abs(sigma - sigma.T).max() > 1e-6 * scale:
        raise DataError(f"{path}: sigma is not symmetric, so it is not a covariance")
    if np.diagonal(sigma).min() < -1e-6 * scale:
        raise DataError(f"{path}: sigma has a negative variance, so it is not a covariance")
    return Statistics(mu, (sigma + sigma.T) / 2)


def save(
    path: Path | str, statistics: Statistics, *, features: np.ndarray | None = None
) -> None:
    """Write an .npz with `mu` and `sigma`, as pytorch-fid does, atomically.

    `count`, and `features` [n, d] if given, are stored beside them; others ignore these.
    """
    extra: dict[str, Any] = {}
    if statistics.count is not None:
        extra["count"] = np.int64(statistics.count)
    if features is not None:
        extra["features"] = np.asarray(features, np.float32)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=statistics.mu, sigma=statistics.sigma, **extra)

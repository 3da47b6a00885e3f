"""Mean and covariance of features, streamed in float64: memory O(d^2), whatever N.

Rows are buffered and folded in blocks of a fixed number of rows (Chan, Golub and LeVeque 1983),
so the bits depend on the order of the rows and the block size alone, not on how the rows arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import files
from harness.errors import DataError

BLOCK_ROWS = 2000  # in blocks of 50 rows, folding d x d matrices takes twenty times as long


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
    """Count, mean [d] and scatter [d, d] (sum of outer products about the mean) of some rows."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Moments:
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def add(self, other: Moments) -> None:
        """Fold `other` in, in place (Chan's update); the order of the calls fixes the bits."""
        total = self.count + other.count
        delta = other.mean - self.mean
        self.scatter += other.scatter
        # The outer product, row by row: a d x d temporary less.
        weighted = delta * (self.count * other.count / total)
        for i, factor in enumerate(weighted):
            self.scatter[i] += factor * delta
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
        return Statistics(self.mean, self.scatter / (self.count - 1), self.count)


class Accumulator:
    """Streams feature rows into `Moments`; optionally keeps each block's own, for `intervals`.

    Kept blocks are packed (upper triangle): 17 MB each at d = 2048.
    """

    def __init__(self, size: int, *, block_rows: int = BLOCK_ROWS, keep_blocks: bool = False):
        self._buffer = np.empty((block_rows, size))
        self._filled = 0
        self._total: Moments | None = None
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
        block = Moments.of(self._buffer[: self._filled])
        self._filled = 0
        if self._keep:
            self.blocks.append(PackedMoments.of(block))
        if self._total is None:
            self._total = block
        else:
            self._total.add(block)

    def finish(self) -> Moments:
        """The moments of all rows so far; more rows may follow."""
        if self._filled:
            self._fold()
        if self._total is None:
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
        scatter = np.empty((size, size))
        at = 0
        for i in range(size):
            scatter[i, i:] = self.packed[at : at + size - i]
            scatter[i:, i] = scatter[i, i:]
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
    extra = {} if statistics.count is None else {"count": np.int64(statistics.count)}
    if features is not None:
        extra["features"] = np.asarray(features, np.float32)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=statistics.mu, sigma=statistics.sigma, **extra)

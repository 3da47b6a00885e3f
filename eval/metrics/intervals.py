"""How sure a Frechet distance is, and what it would be with infinitely many samples.

Both work from the moments of blocks of the samples, kept while the features streamed by: no second
pass over images or features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.metrics import frechet
from eval.metrics.feature_statistics import Accumulator, Moments, PackedMoments, Statistics
from harness.base import seeds

LEVEL = 0.9
RESAMPLINGS = 4000
MIN_SAMPLES = 50
LARGE = 512  # features beyond which a distance takes long, so fewer blocks are used
_POINTS = 15
COVERS = (
    "the distance that as many fresh samples of the same model, by the same protocol, would get; "
    "not another training seed, nor another choice of captions"
)


def number_of_blocks(size: int) -> int:
    """Into how many blocks the samples are cut, for features of `size`."""
    return 16 if size > LARGE else 32


def rows_per_block(size: int, n_samples: int) -> int:
    """Samples in a block (the last may be smaller): what `Accumulator` needs to know."""
    return max(1, -(-n_samples // number_of_blocks(size)))


@dataclass(frozen=True)
class Interval:
    """`low`..`high` holds the distance of as many fresh samples with probability `level`."""

    low: float
    high: float
    level: float
    standard_error: float

    def describe(self) -> dict[str, Any]:
        return {
            "low": self.low, "high": self.high, "level": self.level,
            "standard_error": self.standard_error,
            "method": "block bootstrap of leave-one-block-out influences", "covers": COVERS,
        }


def interval(
    blocks: list[PackedMoments], total: Moments, reference: Statistics, *, seed: int,
    level: float = LEVEL,
) -> Interval | None:
    """Bootstrap interval of the distance of `total` (all `blocks` together) to `reference`.

    Resampling blocks outright would count the bias of repeated samples, which at small N exceeds
    the spread. What is resampled instead is each block's influence, (B - 1) times how much the
    distance moves without it (the jackknife's pseudo-values; Efron and Tibshirani 1993, ch. 11).
    A fresh set of samples differs from this one by the noise of both, hence the root of two.
    None for fewer than MIN_SAMPLES samples.
    """
    count = len(blocks)
    if total.count < MIN_SAMPLES or count < 8:
        return None
    distance, influence = influences(blocks, total, reference)
    random = seeds.generator(seed, "bootstrap")
    draws = random.integers(count, size=(RESAMPLINGS, count))
    means = influence[draws].mean(axis=1) * np.sqrt(count / (count - 1))
    tail = (1.0 - level) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(
        low=float(max(0.0, distance + np.sqrt(2.0) * low)),
        high=float(distance + np.sqrt(2.0) * high),
        level=level,
        standard_error=float(influence.std(ddof=1) / np.sqrt(count)),
    )


def of_features(
    features: np.ndarray, reference: Statistics, *, seed: int
) -> Interval | None:
    """`interval` of features [n, d]: to the bit what an evaluation of these n says."""
    blocks, total = moments(features)
    return interval(blocks, total, reference, seed=seed)


def moments(features: np.ndarray) -> tuple[list[PackedMoments], Moments]:
    """Features [n, d] cut into their blocks, and all of them together."""
    count, size = features.shape
    accumulator = Accumulator(size, block_rows=rows_per_block(size, count), keep_blocks=True)
    accumulator.add(features)
    return accumulator.blocks, accumulator.finish()


def influences(
    blocks: list[PackedMoments], total: Moments, reference: Statistics
) -> tuple[float, np.ndarray]:
    """The distance of `total` (all `blocks` together), and how much each block moves it, [B]."""
    without = np.array([
        frechet.distance(total.without(block.unpack()).statistics(), reference)
        for block in blocks
    ])
    distance = frechet.distance(total.statistics(), reference)
    return distance, (len(blocks) - 1) * (without.mean() - without)


def extrapolate(
    blocks: list[PackedMoments], reference: Statistics, *, seed: int
) -> float | None:
    """The distance for infinitely many samples (Chong and Forsyth 2020).

    A distance of N samples is biased by about c / N: a line through distances of random parts of
    the samples, against 1 / N, is read off at 0. Parts are unions of blocks, of at least a quarter
    of the samples and 2.4 samples a feature (the paper's 5,000 for 2,048), below which the bias
    is not yet c / N. None if that leaves fewer than five sizes.
    """
    count, size = len(blocks), reference.size
    n_samples = sum(block.count for block in blocks)
    least = max(-(-count // 4), int(np.ceil(2.4 * size / n_samples * count)))
    sizes = np.unique(np.linspace(least, count, _POINTS).round().astype(int)) if count >= 8 else []
    if len(sizes) < 5 or least > count or n_samples < MIN_SAMPLES:
        return None
    inverse, distances = [], []
    for turn in range(1 if size > LARGE else 8):
        order = seeds.generator(seed, "extrapolation", turn).permutation(count)
        merged = blocks[order[0]].unpack()
        for k in range(1, count + 1):
            if k > 1:
                merged.add(blocks[order[k - 1]].unpack())
            if k in sizes:
                inverse.append(1.0 / merged.count)
                distances.append(frechet.distance(merged.statistics(), reference))
    slope, intercept = np.polyfit(inverse, distances, 1)
    return float(intercept)

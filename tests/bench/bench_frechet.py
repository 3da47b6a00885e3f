"""Our Frechet distance and pytorch-fid's, and streamed statistics against one matrix product.

Both distances take turns on the same statistics and must agree. The product is features' features
in float64, which is the least that a covariance costs.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from tests.bench.options import Options
from tests.bench.rows import Row, faster, share
from tests.bench.worker import Worker

PART = "frechet"
CASES = {  # name: (d, N of one, N of the other, how many times as fast ours should be)
    "full rank": (2048, 6_000, 5_000, 4.0),
    "singular, both": (2048, 500, 600, 20.0),
}
STREAMED = 10_000  # rows of features
RECEIVED = 200  # rows at a time, as feature blocks arrive


def rows(options: Options) -> Iterator[Row]:
    """The distance at each of CASES, then streaming."""
    width, shrink = (64, 32) if options.quick else (2048, 1)
    with Worker("tests.bench.bench_frechet:Distances", threads=options.threads) as worker:
        for name, (_, n1, n2, target) in CASES.items():
            worker.prepare(d=width, n1=n1 // shrink, n2=n2 // shrink)
            told = [(worker.ours(), worker.theirs()) for _ in range(options.rounds)]
            for mine, other in told:
                if not math.isclose(mine[0], other[0], rel_tol=1e-3):
                    raise ValueError(f"{name}: ours is {mine[0]}, pytorch-fid's {other[0]}")
            seconds = [[pair[side][1] for pair in told] for side in (0, 1)]
            yield faster(PART, f"Frechet distance, {name}, d {width}", "pytorch-fid", *seconds,
                         target=target)
        worker.features(n=STREAMED // shrink, d=width)
        told = [(worker.streamed(), worker.product()) for _ in range(options.rounds + 1)][1:]
        yield share(PART, f"statistics of {STREAMED // shrink} x {width}, streamed",
                    "one float64 product", *map(list, zip(*told, strict=True)), target=1.2)


class Distances:
    """Statistics made once, distances measured on demand."""

    def prepare(self, d: int, n1: int, n2: int) -> None:
        """Make the statistics of two sets, and load LAPACK."""
        from eval.metrics import feature_statistics, frechet

        warnings.simplefilter("ignore")
        small = feature_statistics.of_features(made(50, 8, 0, 0.0))
        frechet.distance(small, feature_statistics.of_features(made(50, 8, 1, 0.1)))
        self.a = feature_statistics.of_features(made(n1, d, 1, 0.0))
        self.b = feature_statistics.of_features(made(n2, d, 2, 0.3))

    def ours(self) -> tuple[float, float]:
        """(distance, seconds)"""
        from eval.metrics import frechet

        return _timed(lambda: frechet.distance(self.a, self.b))

    def theirs(self) -> tuple[float, float]:
        """(distance, seconds)"""
        from pytorch_fid.fid_score import calculate_frechet_distance

        a, b = self.a, self.b
        return _timed(lambda: calculate_frechet_distance(a.mu, a.sigma, b.mu, b.sigma))

    def features(self, n: int, d: int) -> None:
        """Make float32 features [n, d] to stream."""
        self.rows = made(n, d, 3, 0.0).astype(np.float32)

    def streamed(self) -> float:
        """Seconds from features, arriving in small blocks, to mean and covariance."""
        from eval.metrics import feature_statistics

        parts = (self.rows[i : i + RECEIVED] for i in range(0, len(self.rows), RECEIVED))
        return _timed(lambda: feature_statistics.of_features(parts).sigma[0, 0])[1]

    def product(self) -> float:
        """Seconds of one float64 matrix product of the features with themselves."""
        rows = self.rows.astype(np.float64)
        return _timed(lambda: (rows.T @ rows)[0, 0])[1]


def made(n: int, d: int, seed: int, shift: float) -> np.ndarray:
    """Features [n, d] with a decaying spectrum, float64; `shift` tells two sets apart."""
    random = np.random.default_rng(seed)
    scale = np.exp(-np.linspace(0.0, 4.0, d)) * (1.0 + shift * np.linspace(0.0, 1.0, d))
    x = random.standard_normal((n, d)) * scale
    return x + 0.1 * x[:, ::-1] + shift * scale


def _timed(work: Callable[[], float]) -> tuple[float, float]:
    began = time.perf_counter()
    value = float(work())
    return value, time.perf_counter() - began

"""Our Frechet distance and pytorch-fid's, side by side: `python -m tests.bench.bench_frechet`.

Both take turns on the same statistics, so that what else the machine does hits them alike. The
bounds are a quarter of pytorch-fid's time at full rank and a twentieth where singular, at d = 2048.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from eval import frechet, statistics

CASES = {  # name: (d, N of one, N of the other)
    "full rank 768": (768, 4_000, 3_500),
    "full rank": (2048, 6_000, 5_000),
    "singular, both": (2048, 500, 600),
    "singular, one": (2048, 500, 5_000),
    "nearly full": (2048, 1_900, 2_000),
}


def features(n: int, d: int, seed: int, shift: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    scale = np.exp(-np.linspace(0.0, 4.0, d)) * (1.0 + shift * np.linspace(0.0, 1.0, d))
    x = random.standard_normal((n, d)) * scale
    return x + 0.1 * x[:, ::-1] + shift * scale


def timed(work) -> tuple[float, float]:
    began = time.perf_counter()
    value = float(work())
    return value, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", help="Cases whose name contains this.")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    from pytorch_fid.fid_score import calculate_frechet_distance

    small = statistics.of_features(features(50, 8, 0, 0.0))
    frechet.distance(small, statistics.of_features(features(50, 8, 1, 0.1)))  # loads LAPACK
    print(f"{'case':<16} {'d':>5} {'ours s':>8} {'theirs s':>9} {'times':>6} {'difference':>11}")
    for name, (d, n1, n2) in CASES.items():
        if chosen.only and chosen.only not in name:
            continue
        a = statistics.of_features(features(n1, d, 1, 0.0))
        b = statistics.of_features(features(n2, d, 2, 0.3))
        ours, theirs = [], []
        for _ in range(chosen.rounds):
            found, seconds = timed(lambda a=a, b=b: frechet.distance(a, b))
            ours.append(seconds)
            expected, seconds = timed(
                lambda a=a, b=b: calculate_frechet_distance(a.mu, a.sigma, b.mu, b.sigma)
            )
            theirs.append(seconds)
        ratio = min(theirs) / min(ours)
        error = abs(found / expected - 1.0)
        times = f"{min(ours):>8.2f} {min(theirs):>9.2f} {ratio:>6.1f}"
        print(f"{name:<16} {d:>5} {times} {error:>11.1e}",
              flush=True)


if __name__ == "__main__":
    main()

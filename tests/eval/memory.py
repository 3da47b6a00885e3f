"""Peak memory of measuring N x 2048 features: `python -m tests.eval.memory N [all]` prints bytes.

In a process of its own: a peak cannot be unseen by what ran before it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import scipy.linalg  # noqa: F401  part of the baseline

from eval.metrics import all_metrics, frechet, intervals
from eval.metrics.feature_statistics import Accumulator, Statistics
from eval.metrics.reference_statistics import Reference

SIZE = 2048


def rows(n: int):
    """n features in pieces of 50, as an evaluation writes them."""
    random = np.random.default_rng(0)
    for first in range(0, n, 50):
        yield random.standard_normal((min(50, n - first), SIZE), dtype=np.float32)


def resident(key: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    n, everything = int(sys.argv[1]), "all" in sys.argv
    reference = Statistics(np.zeros(SIZE), np.eye(SIZE))
    np.linalg.eigvalsh(np.eye(300))  # the BLAS threads' buffers belong to the baseline
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    if everything:
        all_metrics.measure(
            lambda: rows(n), network=SimpleNamespace(size=SIZE, metric="fid"),
            reference=Reference(reference, "", Path()), n_samples=n, seed=0,
        )
    else:
        accumulator = Accumulator(
            SIZE, block_rows=intervals.rows_per_block(SIZE, n), keep_blocks=True
        )
        for part in rows(n):
            accumulator.add(part)
        total = accumulator.finish()
        part = accumulator.blocks[0].unpack()
        frechet.distance(total.without(part).statistics(), reference)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()

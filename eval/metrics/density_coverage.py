"""Density and coverage (Naeem et al. 2020), in blocks.

Precision and recall with what makes them fragile taken out: only the real set's balls are asked,
so an outlier among the generated samples opens no ball, and an outlier among the real ones is one
ball among others. Density: in how many real balls a generated sample lies, relative to the k that
each real sample lies in (no upper bound of 1). Coverage: the share of real balls with a generated
sample inside.
"""

from __future__ import annotations

import numpy as np

from eval.metrics.precision_recall import radii, squared_distances
from harness.base.errors import DataError

K = 5  # the paper's, and what `prdc` and dgm-eval are called with
_BLOCK = 1024


def density_coverage(
    real: np.ndarray, generated: np.ndarray, *, k: int = K
) -> tuple[float, float]:
    """(density, coverage) of features [m, d] and [n, d]; a ball is open, as in `prdc`.

    DataError unless the real set has more than k samples and the other at least one.
    """
    if len(real) <= k or not len(generated):
        raise DataError(f"density and coverage need more than {k} real samples and one generated")
    squared_radii = radii(real, k)
    pairs, covered = 0, np.zeros(len(real), bool)
    for i in range(0, len(real), _BLOCK):
        within = slice(i, i + _BLOCK)
        for j in range(0, len(generated), _BLOCK):
            squares = squared_distances(real[within], generated[j : j + _BLOCK])
            inside = squares < squared_radii[within, None]
            pairs += int(inside.sum())
            covered[within] |= inside.any(axis=1)
    return pairs / (k * len(generated)), float(covered.mean())

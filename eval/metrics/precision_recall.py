"""Precision and recall by nearest neighbours (Kynkaanniemi et al. 2019), in blocks.

A set's manifold is the union of balls around its samples, each out to its k-th nearest other
sample. Precision: the share of generated samples within the real manifold. Recall: the reverse.
"""

from __future__ import annotations

import numpy as np

from harness.base.errors import DataError

K = 3  # the paper's
_BLOCK = 1024


def precision_recall(
    real: np.ndarray, generated: np.ndarray, *, k: int = K
) -> tuple[float, float]:
    """(precision, recall) of features [m, d] and [n, d].

    DataError unless each set has more than k samples.
    """
    if min(len(real), len(generated)) <= k:
        raise DataError(f"precision and recall need more than {k} samples in each set")
    precision = _share_inside(generated, real, radii(real, k))
    recall = _share_inside(real, generated, radii(generated, k))
    return precision, recall


def radii(points: np.ndarray, k: int = K) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other point, float64 [n]."""
    found = np.empty(len(points))
    for i in range(0, len(points), _BLOCK):
        rows = points[i : i + _BLOCK]
        best = np.full((len(rows), k), np.inf)
        for j in range(0, len(points), _BLOCK):
            squares = squared_distances(rows, points[j : j + _BLOCK])
            if i == j:
                np.fill_diagonal(squares, np.inf)  # a point is not its own neighbour
            best = np.partition(np.concatenate([best, squares], axis=1), k - 1, axis=1)[:, :k]
        found[i : i + _BLOCK] = best.max(axis=1)
    return found


def _share_inside(points: np.ndarray, centres: np.ndarray, squared_radii: np.ndarray) -> float:
    inside = np.zeros(len(points), bool)
    for i in range(0, len(points), _BLOCK):
        for j in range(0, len(centres), _BLOCK):
            squares = squared_distances(points[i : i + _BLOCK], centres[j : j + _BLOCK])
            within = squares <= squared_radii[j : j + _BLOCK]
            inside[i : i + _BLOCK] |= within.any(axis=1)
    return float(inside.mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of rows of a [m, d] to those of b [n, d], float64 [m, n]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.maximum(squares, 0.0, out=squares)

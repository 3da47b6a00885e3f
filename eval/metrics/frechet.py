"""Exact Frechet distance between two Gaussians, also where sqrtm fails.

    d^2 = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)      (Dowson and Landau 1982)

With S1 = F F' the last trace is the sum of the square roots of the eigenvalues of F' S2 F, a
symmetric matrix: one values-only eigensolve instead of the Schur decomposition in scipy's sqrtm,
real by construction. F comes from Cholesky with pivoting, which finds the rank r of S1 on the way;
F' S2 F is then only r x r, so fewer samples than dimensions make it faster, not impossible.

LAPACK wants columns in memory one after the other. Everything here is symmetric, so matrices are
handed over as their transposes, which are that already: nothing is copied to turn it round.
"""

from __future__ import annotations

import numpy as np

from eval.metrics.feature_statistics import Statistics
from harness.base.errors import DataError

_EPS = float(np.finfo(np.float64).eps)


def distance(a: Statistics, b: Statistics) -> float:
    """Frechet distance (squared, as everyone prints it) of two sets of statistics, >= 0.

    DataError if their sizes differ.
    """
    if a.size != b.size:
        raise DataError(
            f"statistics of {a.size} and of {b.size} features cannot be compared",
            remedy="use two that were made with the same feature network",
        )
    delta = a.mu - b.mu
    if np.array_equal(a.sigma, b.sigma):
        return float(delta @ delta)
    traces = float(np.trace(a.sigma) + np.trace(b.sigma))
    # The smaller rank first, as far as the counts tell: the problem is as large as that one.
    first, second = sorted((a, b), key=_most_rank)
    cross = trace_sqrt_product(first.sigma, second.sigma, scale=traces)
    # Rounding can leave -1e-15 of the traces where the sets are equal up to rounding.
    return max(0.0, float(delta @ delta) + (traces - 2.0 * cross))


def _most_rank(statistics: Statistics) -> int:
    return min(statistics.size, statistics.count or statistics.size)


def trace_sqrt_product(s1: np.ndarray, s2: np.ndarray, *, scale: float) -> float:
    """tr (S1 S2)^(1/2) of two covariances [d, d], float64; quicker if S1 has the smaller rank.

    `scale` (tr S1 + tr S2) is what the result will be subtracted from. Eigenvalues at the level
    of rounding have square roots that rounding made up; where these could count, the singular
    values of the product of both factors are taken instead: slower, and free of it.
    """
    f1 = factor(s1)
    values = _eigenvalues(f1, s2)
    top = values.max(initial=0.0)
    if len(values) and values[0] <= 16 * len(values) * _EPS * top:
        f2 = factor(s2)
        if f2.rank < f1.rank:  # the smaller problem has no zeros among its eigenvalues
            f1, f2, s2 = f2, f1, s1
            values = _eigenvalues(f1, s2)
            top = values.max(initial=0.0)
    doubtful = values[np.abs(values) <= 16 * _EPS * top]
    total = float(np.sqrt(np.maximum(values, 0.0)).sum())
    allowed = 5e-7 * max(scale - 2 * total, 1e-3 * scale)
    if float(np.sqrt(np.abs(doubtful)).sum()) <= allowed:
        return total
    return _nuclear_norm(f1, f2)


class Factor:
    """S = P L (P L)' with L [d, rank] lower trapezoidal and `order` the pivots (P's rows).

    `packed` [d, d] has L in its lower triangle; what is above and right of it is not L's.
    """

    def __init__(self, packed: np.ndarray, order: np.ndarray, rank: int):
        self.packed, self.order, self.rank = packed, order, rank

    def matrix(self) -> np.ndarray:
        """P L, [d, rank]."""
        out = np.empty((len(self.packed), self.rank), order="F")
        out[self.order] = np.tril(self.packed[:, : self.rank])
        return out


def factor(sigma: np.ndarray) -> Factor:
    """Cholesky with complete pivoting (LAPACK dpstrf); stops where only rounding is left.

    DataError if `sigma` has no positive variance to start from but is not zero.
    """
    from scipy.linalg import lapack

    size = len(sigma)
    largest = float(np.diagonal(sigma).max())
    if largest <= 0.0:
        if np.any(sigma):
            raise DataError("a covariance without a positive variance is not a covariance")
        return Factor(np.zeros((size, size)), np.arange(size), 0)
    packed, order, rank, _ = lapack.dpstrf(sigma.T, lower=1, tol=size * _EPS * largest)
    return Factor(packed, order - 1, rank)


def _eigenvalues(f: Factor, other: np.ndarray) -> np.ndarray:
    """Ascending eigenvalues of F' S F, [rank]."""
    from scipy.linalg import blas, eigvalsh, lapack

    if not f.rank:
        return np.empty(0)
    if f.rank < len(other):
        matrix = f.matrix()
        # Not numpy's products: the threads of its BLAS, while they wait for more, hold up scipy's.
        product = blas.dgemm(1.0, matrix, blas.dgemm(1.0, other.T, matrix), trans_a=1)
    else:
        # L' S L for a triangular L: a quarter of the work of two general products.
        permuted = other[np.ix_(f.order, f.order)].T
        product, info = lapack.dsygst(permuted, f.packed, itype=2, lower=1, overwrite_a=1)
        if info:
            raise AssertionError(f"dsygst: {info}")
    return eigvalsh(product, overwrite_a=True, check_finite=False)


def _nuclear_norm(f1: Factor, f2: Factor) -> float:
    """Sum of the singular values of F1' F2."""
    from scipy.linalg import svdvals

    if not f1.rank or not f2.rank:
        return 0.0
    return float(svdvals(f1.matrix().T @ f2.matrix(), check_finite=False).sum())

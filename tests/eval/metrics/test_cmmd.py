"""CMMD against the authors' formula, by code of another kind."""

import math
import operator

import numpy as np
import pytest

from eval.metrics import cmmd
from harness.base.errors import DataError


def embeddings(n, seed, shift=0.0, size=24):
    found = np.random.default_rng(seed).standard_normal((n, size)) + shift
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def authors(x, y):
    """distance.mmd of google-research/cmmd, pair by pair, its sums without rounding."""
    x, y = x.tolist(), y.tolist()
    gamma = 1 / (2 * 10**2)

    def dot(p, q):
        return math.fsum(map(operator.mul, p, q))

    def mean(a, b):
        return math.fsum(
            math.exp(-gamma * (-2 * dot(p, q) + dot(p, p) + dot(q, q))) for p in a for q in b
        ) / (len(a) * len(b))

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_equals_the_authors():
    for shift in (0.0, 0.3, 2.0):
        a, b = embeddings(40, 1), embeddings(30, 2, shift)
        assert cmmd.cmmd(a, b) == pytest.approx(authors(a, b), rel=1e-6)


def test_of_equal_sets_it_is_nothing_and_grows_with_the_shift():
    a = embeddings(80, 1)
    assert cmmd.cmmd(a, a[::-1]) == pytest.approx(0.0, abs=1e-12)
    figures = [cmmd.cmmd(a, embeddings(80, 2, shift)) for shift in (0.0, 0.2, 0.5, 1.0)]
    assert 0 < figures[0] and figures == sorted(figures)


def test_blocks_do_not_show(monkeypatch):
    a, b = embeddings(70, 1), embeddings(50, 2, 0.4)
    whole = cmmd.cmmd(a, b)
    monkeypatch.setattr(cmmd, "_BLOCK", 17)
    assert cmmd.cmmd(a, b) == pytest.approx(whole, rel=1e-12)


def test_an_empty_set_is_refused():
    with pytest.raises(DataError):
        cmmd.cmmd(embeddings(3, 1), np.zeros((0, 24), np.float32))

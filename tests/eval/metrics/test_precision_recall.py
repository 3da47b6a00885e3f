"""Precision and recall on cases small enough to work by hand, and against a plain double loop."""

import numpy as np
import pytest

from eval.metrics import precision_recall
from harness.base.errors import DataError


def by_the_definition(real, generated, k):
    def radius(points, i):
        others = [np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i]
        return sorted(others)[k - 1]

    def share(points, centres):
        reach = [radius(centres, i) for i in range(len(centres))]
        return np.mean([
            any(np.linalg.norm(p - c) <= r for c, r in zip(centres, reach, strict=True))
            for p in points
        ])

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_definition(k):
    random = np.random.default_rng(0)
    real, generated = random.standard_normal((60, 3)), 0.7 * random.standard_normal((45, 3)) + 0.6
    found = precision_recall.precision_recall(real, generated, k=k)
    assert found == pytest.approx(by_the_definition(real, generated, k), abs=1e-12)
    assert 0.0 < found[0] <= 1.0


def test_worked_by_hand():
    # Real points 0, 1, 2, 10 on a line; with k = 1 their radii are 1, 1, 1, 8.
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    # 2.9 lies in the balls of 2 and of 10; 30 and 31 lie in none. Their radii: 27.1, 1, 1.
    generated = np.array([[2.9], [30.0], [31.0]])
    assert precision_recall.precision_recall(real, generated, k=1) == pytest.approx((1 / 3, 1.0))


def test_blocks_do_not_show(monkeypatch):
    random = np.random.default_rng(1)
    real, generated = random.standard_normal((70, 4)), random.standard_normal((50, 4)) * 0.8
    whole = precision_recall.precision_recall(real, generated)
    monkeypatch.setattr(precision_recall, "_BLOCK", 17)
    assert precision_recall.precision_recall(real, generated) == whole


def test_too_few_samples_are_refused():
    with pytest.raises(DataError):
        precision_recall.precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))

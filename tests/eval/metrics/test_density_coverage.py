"""Density and coverage against the published `prdc`, written out pair by pair."""

import numpy as np
import pytest

from eval.metrics import density_coverage
from harness.base.errors import DataError


def published(real, generated, k):
    """compute_prdc's density and coverage (clovaai/generative-evaluation-prdc), by plain loops."""
    reach = []
    for a in real:  # the k + 1 nearest, itself the first
        reach.append(sorted(np.linalg.norm(a - b) for b in real)[k])
    inside = [
        [np.linalg.norm(a - g) < r for g in generated] for a, r in zip(real, reach, strict=True)
    ]
    density = sum(map(sum, inside)) / k / len(generated)
    nearest = [min(np.linalg.norm(a - g) for g in generated) for a in real]
    return density, sum(d < r for d, r in zip(nearest, reach, strict=True)) / len(real)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_published(k):
    random = np.random.default_rng(k)
    real, generated = random.standard_normal((60, 4)), 0.6 * random.standard_normal((45, 4)) + 0.4
    found = density_coverage.density_coverage(real, generated, k=k)
    assert found == pytest.approx(published(real, generated, k), abs=1e-6)
    assert found[0] > 0.0 and 0.0 < found[1] < 1.0


def test_worked_by_hand():
    # Real points 0, 1, 2, 10 on a line; with k = 1 their radii are 1, 1, 1, 8.
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    # 2.5 lies in the balls of 2 and of 10, 3 in that of 10 alone (a ball is open), 30 in none.
    generated = np.array([[2.5], [3.0], [30.0]])
    assert density_coverage.density_coverage(real, generated, k=1) == pytest.approx((1.0, 0.5))


def test_an_outlier_among_the_generated_opens_no_ball():
    random = np.random.default_rng(3)
    real, generated = random.standard_normal((80, 3)), random.standard_normal((70, 3)) + 9
    assert density_coverage.density_coverage(real, generated)[1] == 0.0
    outlier = np.full((1, 3), 1e6)
    assert density_coverage.density_coverage(real, np.concatenate([generated, outlier]))[1] == 0.0


def test_blocks_do_not_show(monkeypatch):
    random = np.random.default_rng(1)
    real, generated = random.standard_normal((70, 4)), random.standard_normal((50, 4)) * 0.8
    whole = density_coverage.density_coverage(real, generated)
    monkeypatch.setattr(density_coverage, "_BLOCK", 17)
    assert density_coverage.density_coverage(real, generated) == whole


def test_too_few_samples_are_refused():
    with pytest.raises(DataError):
        density_coverage.density_coverage(np.zeros((5, 2)), np.zeros((9, 2)))
    with pytest.raises(DataError):
        density_coverage.density_coverage(np.zeros((9, 2)), np.zeros((0, 2)))

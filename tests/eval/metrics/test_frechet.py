"""The Frechet distance against pytorch-fid's and against cases whose answer is known."""

import numpy as np
import pytest

from eval.metrics import feature_statistics, frechet
from eval.metrics.feature_statistics import Statistics
from harness.base.errors import DataError
from tests.eval import peer


def features(n, d, seed, spread=4.0, shift=0.0):
    """Correlated features whose variances fall over `spread` powers of e, as a network's do."""
    random = np.random.default_rng(seed)
    scale = np.exp(-np.linspace(0.0, spread, d)) * (1.0 + shift * np.linspace(0.0, 1.0, d))
    x = random.standard_normal((n, d)) * scale
    return x + 0.1 * x[:, ::-1] + shift * scale


def pair(n1, n2, d):
    return (
        feature_statistics.of_features(features(n1, d, 1)),
        feature_statistics.of_features(features(n2, d, 2, shift=0.3)),
    )


def by_singular_values(a, b):
    """The textbook way: both square roots by eigendecomposition, then singular values."""
    roots = []
    for sigma in (a.sigma, b.sigma):
        values, vectors = np.linalg.eigh(sigma)
        values[values < len(values) * np.finfo(float).eps * values[-1]] = 0.0
        roots.append(np.sqrt(values) * vectors)
    cross = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    return ((a.mu - b.mu) ** 2).sum() + np.trace(a.sigma) + np.trace(b.sigma) - 2 * cross


# Well-conditioned: pytorch-fid is right to 1e-6 there. Singular: it is wrong by up to 1e-5.
SMALL = [
    (1_000, 1_200, 64, 1e-6), (30_000, 20_000, 64, 1e-6), (2_000, 1_500, 192, 1e-6),
    (100, 150, 192, 1e-4), (2_000, 100, 192, 1e-4),
]
LARGE = [
    (3_000, 2_500, 768, 1e-6), (3_000, 500, 768, 1e-4), (30_000, 20_000, 2048, 1e-6),
    (500, 600, 2048, 1e-4), (500, 10_000, 2048, 1e-4),
]


def assert_equals_pytorch_fid(folder, cases):
    pairs = [pair(n1, n2, d) for n1, n2, d, _ in cases]
    for (a, b), case, theirs in zip(pairs, cases, peer.frechet(folder, pairs), strict=True):
        assert frechet.distance(a, b) == pytest.approx(theirs["value"], rel=case[-1]), case


def test_equals_pytorch_fid(tmp_path):
    assert_equals_pytorch_fid(tmp_path, SMALL)


@pytest.mark.slow
def test_equals_pytorch_fid_on_large_statistics(tmp_path):
    assert_equals_pytorch_fid(tmp_path, LARGE)


@pytest.mark.parametrize("n1, n2, d", [case[:3] for case in SMALL])
def test_equals_the_textbook_formula(n1, n2, d):
    a, b = pair(n1, n2, d)
    assert frechet.distance(a, b) == pytest.approx(by_singular_values(a, b), rel=1e-10)


@pytest.mark.parametrize("n1, n2", [(500, 600), (60, 2_000), (2_000, 60), (199, 201), (10, 12)])
@pytest.mark.parametrize("counted", [True, False])  # files of others do not say how many
def test_fewer_samples_than_dimensions(n1, n2, counted):
    a, b = pair(n1, n2, 200)
    if not counted:
        a, b = Statistics(a.mu, a.sigma), Statistics(b.mu, b.sigma)
    assert frechet.distance(a, b) == pytest.approx(by_singular_values(a, b), rel=1e-9)
    assert frechet.distance(b, a) == pytest.approx(by_singular_values(a, b), rel=1e-9)


def test_covariances_that_commute_have_a_closed_form():
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((300, 300)))[0]
    one, two = random.uniform(0.1, 2.0, (2, 300))
    mu = random.standard_normal((2, 300))
    a = Statistics(mu[0], (basis * one) @ basis.T)
    b = Statistics(mu[1], (basis * two) @ basis.T)
    expected = ((mu[0] - mu[1]) ** 2).sum() + ((np.sqrt(one) - np.sqrt(two)) ** 2).sum()
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [50, 3_000])
def test_equal_sets_are_at_zero(n):
    a = feature_statistics.of_features(features(n, 100, 1))
    assert frechet.distance(a, a) == 0.0
    # The same set in another order: equal up to rounding only.
    shuffled = features(n, 100, 1)[np.random.default_rng(3).permutation(n)]
    again = frechet.distance(a, feature_statistics.of_features(shuffled))
    assert 0.0 <= again < 1e-9 * np.trace(a.sigma)


def test_covariances_of_rank_zero_and_one():
    zero = Statistics(np.zeros(3), np.zeros((3, 3)))
    direction = np.array([1.0, 2.0, 2.0])
    line = Statistics(np.ones(3), np.outer(direction, direction))
    assert frechet.distance(zero, line) == pytest.approx(3.0 + 9.0)
    assert frechet.distance(line, zero) == pytest.approx(3.0 + 9.0)
    other = Statistics(np.ones(3), np.diag([4.0, 0.0, 0.0]))
    assert frechet.distance(line, other) == pytest.approx(9.0 + 4.0 - 2.0 * 2.0)


def test_eigenvalues_at_the_level_of_rounding_do_not_leak_in():
    # Disjoint supports: every eigenvalue of the product is rounding, the cross term is zero.
    random = np.random.default_rng(0)
    x, y = np.zeros((2, 400, 120))
    x[:, :60], y[:, 60:] = random.standard_normal((2, 400, 60))
    a, b = feature_statistics.of_features(x), feature_statistics.of_features(y)
    expected = ((a.mu - b.mu) ** 2).sum() + np.trace(a.sigma) + np.trace(b.sigma)
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_other_sizes_are_refused():
    with pytest.raises(DataError, match="64 and of 32"):
        frechet.distance(
            Statistics(np.zeros(64), np.eye(64)), Statistics(np.zeros(32), np.eye(32))
        )


def test_inputs_are_left_alone():
    a, b = pair(300, 80, 50)
    before = a.sigma.copy(), b.sigma.copy()
    frechet.distance(a, b)
    np.testing.assert_array_equal(a.sigma, before[0])
    np.testing.assert_array_equal(b.sigma, before[1])

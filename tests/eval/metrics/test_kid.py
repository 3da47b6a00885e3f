"""KID against the published formula and torch-fidelity."""

import numpy as np
import pytest

from eval.metrics import kid
from harness.base.errors import DataError
from tests.eval import peer


def by_the_formula(a, b):
    """Binkowski et al. 2018, equation 4, term by term."""
    def k(x, y):
        return (x @ y / len(x) + 1.0) ** 3

    m, n = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_b = sum(k(b[i], b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(k(x, y) for x in a for y in b) / (m * n)
    return within_a + within_b - 2 * between


def test_equals_the_published_formula():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((9, 5)), random.standard_normal((7, 5)) + 0.5
    assert kid.kid(a, b).value == pytest.approx(by_the_formula(a, b), rel=1e-12)


def test_equals_torch_fidelity(tmp_path):
    random = np.random.default_rng(1)
    a, b = random.standard_normal((300, 64)), 1.2 * random.standard_normal((300, 64)) + 0.1
    assert kid.kid(a, b).value == pytest.approx(peer.kid(tmp_path, a, b), rel=1e-6)


def test_blocks_do_not_show(monkeypatch):
    random = np.random.default_rng(2)
    a, b = random.standard_normal((53, 6)), random.standard_normal((40, 6)) + 1.0
    whole = kid.kid(a, b)
    monkeypatch.setattr(kid, "_BLOCK", 16)
    parts = kid.kid(a, b)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-12)


def test_the_standard_error_is_the_spread_over_fresh_samples():
    random = np.random.default_rng(3)
    drawn = [
        kid.kid(random.standard_normal((150, 4)), 1.3 * random.standard_normal((200, 4)))
        for _ in range(200)
    ]
    spread = np.std([one.value for one in drawn])
    stated = np.mean([one.standard_error for one in drawn])
    assert stated == pytest.approx(spread, rel=0.25)


def test_equal_distributions_are_at_zero_within_the_standard_error():
    random = np.random.default_rng(4)
    found = kid.kid(random.standard_normal((400, 8)), random.standard_normal((400, 8)))
    assert abs(found.value) < 5 * found.standard_error


def test_one_sample_is_too_few():
    with pytest.raises(DataError):
        kid.kid(np.zeros((1, 3)), np.zeros((5, 3)))

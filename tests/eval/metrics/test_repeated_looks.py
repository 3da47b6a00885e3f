"""Verdicts under repeated looks, on stored features of the scanned digits: how often wrong."""

import numpy as np
import pytest

from eval.metrics import feature_statistics, frechet, paired_distances, repeated_looks

ERROR_RATE = 0.05


def decide(a, b, reference, planned, minimum=0.0):
    """(verdict, samples) of a sequence of looks at pairs of features."""
    for samples in planned:
        found = paired_distances.difference(a[:samples], b[:samples], reference)
        low, high = repeated_looks.interval(found, error_rate=ERROR_RATE, looks=len(planned))
        verdict = repeated_looks.verdict(low, high, minimum=minimum * found.b)
        if verdict:
            break
    return verdict, samples


def false_verdicts(features, reference, trials, shared):
    """Of `trials` comparisons of two equal models, of whose pairs a share is the same sample."""
    wrong = 0
    planned = repeated_looks.planned(500, 50)
    for trial in range(trials):
        random = np.random.default_rng([trial, 7])
        one, other = random.integers(len(features), size=(2, 500))
        other = np.where(random.random(500) < shared, one, other)
        wrong += decide(features[one], features[other], reference, planned)[0] is not None
    return wrong


@pytest.fixture(scope="module")
def pool(digits_features):
    train, val = digits_features
    return np.asarray(train, np.float64), feature_statistics.of_features(np.asarray(val))


def test_equal_models_are_seldom_told_apart(pool):
    # Binomial of 12 at 5 %: 4 or more in 1 of 450.
    assert false_verdicts(*pool, 12, 0.5) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_of_1000_comparisons_of_equal_models_at_most_the_stated_share_is_wrong(pool, shared):
    assert false_verdicts(*pool, 1000, shared) <= 50


def test_a_better_model_is_found_early(pool):
    features, reference = pool
    random = np.random.default_rng(3)
    worse = features + 0.4 * random.standard_normal(features.shape) * features.std(axis=0)
    order = random.integers(len(features), size=500)
    planned = repeated_looks.planned(500, 50)
    verdict, samples = decide(features[order], worse[order], reference, planned)
    assert verdict == "better" and samples <= 250
    assert decide(worse[order], features[order], reference, planned)[0] == "worse"


def test_nearly_the_same_is_equal_within_the_minimum_effect(pool):
    features, reference = pool
    near = features + 1e-3 * np.random.default_rng(4).standard_normal(features.shape)
    found = decide(features[:500], near[:500], reference, [250, 500], minimum=0.05)
    assert found == ("equal", 250)


def test_the_difference_is_of_the_distances_and_surer_in_pairs(pool):
    features, reference = pool
    random = np.random.default_rng(5)
    one, other = features[:400], features[:400] + 0.3 * random.standard_normal((400, 33))
    found = paired_distances.difference(one, other, reference)
    for value, features in ((found.a, one), (found.b, other)):
        plain = frechet.distance(feature_statistics.of_features(features), reference)
        assert value == pytest.approx(plain, rel=1e-9)
    apart = paired_distances.difference(one, other[::-1].copy(), reference)
    assert found.standard_error < 0.7 * apart.standard_error
    same = paired_distances.difference(one, one, reference)
    assert (same.value, same.standard_error) == (0.0, 0.0)
    with pytest.raises(ValueError, match="not pairs"):
        paired_distances.difference(one, other[:300], reference)


def test_looks_double_up_to_all_and_are_whole_blocks():
    assert repeated_looks.planned(30_000, 50) == [1900, 3750, 7500, 15_000, 30_000]
    assert repeated_looks.planned(500, 50) == [50, 100, 150, 250, 500]
    assert repeated_looks.planned(40, 50) == [40]


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (-1.0, 2.0, None), (-0.5, 0.9, "equal"), (-5.0, -0.1, "better"), (0.1, 5.0, "worse"),
    (0.1, 0.9, "equal"), (-5.0, 5.0, None),
])  # fmt: skip
def test_verdicts_of_intervals(low, high, verdict):
    assert repeated_looks.verdict(low, high, minimum=1.0) == verdict

"""Intervals and extrapolation of the distance, against what fresh samples really do."""

import numpy as np
import pytest

from eval.metrics import feature_statistics, frechet, intervals
from eval.metrics.feature_statistics import Accumulator

SCALE = np.exp(-np.linspace(0.0, 2.5, 33)) * 3
CENTRES = np.random.default_rng(0).standard_normal((10, 33)) * SCALE
REAL = CENTRES + 0.0
MADE = CENTRES + 0.35 * np.random.default_rng(1).standard_normal((10, 33)) * SCALE


def draw(random, n, centres):
    """Ten clusters with heavy tails, as features of digits are."""
    spread = 1.0 + 0.3 * random.standard_normal((n, 1))
    return centres[random.integers(0, 10, n)] + random.standard_normal((n, 33)) * SCALE * spread


REFERENCE = feature_statistics.of_features(draw(np.random.default_rng(2), 5_000, REAL))


def measured(x, seed=0):
    accumulator = Accumulator(
        33, block_rows=intervals.rows_per_block(33, len(x)), keep_blocks=True
    )
    accumulator.add(x)
    total = accumulator.finish()
    return accumulator.blocks, total, intervals.interval(
        accumulator.blocks, total, REFERENCE, seed=seed
    )


def covered(n, trials, draw_one, reference):
    """How many intervals of one set of n samples hold the distance of a fresh one."""
    hits = 0
    for _ in range(trials):
        accumulator = Accumulator(
            33, block_rows=intervals.rows_per_block(33, n), keep_blocks=True
        )
        accumulator.add(draw_one(n))
        total = accumulator.finish()
        interval = intervals.interval(accumulator.blocks, total, reference, seed=0)
        fresh = frechet.distance(feature_statistics.of_features(draw_one(n)), reference)
        hits += interval.low <= fresh <= interval.high
    return hits


@pytest.mark.parametrize("n, seed", [(600, 3), (100, 4)])
def test_ninety_per_cent_intervals_hold_fresh_distances(n, seed):
    random = np.random.default_rng(seed)
    assert 80 <= covered(n, 100, lambda n: draw(random, n, MADE), REFERENCE) <= 97


@pytest.mark.parametrize("n, seed", [(500, 5), (200, 6)])
def test_the_same_on_digits_features(digits_features, n, seed):
    train, val = digits_features
    random = np.random.default_rng(seed)
    # A flawed generator: it draws from the train digits with the lower half twice as often.
    weight = np.where(np.arange(len(train)) < len(train) // 2, 2.0, 1.0)

    def draw_one(n):
        return train[random.choice(len(train), n, p=weight / weight.sum())]

    assert 80 <= covered(n, 100, draw_one, feature_statistics.of_features(val)) <= 97


def test_the_standard_error_is_the_spread_of_fresh_distances():
    random = np.random.default_rng(5)
    drawn = [measured(draw(random, 400, MADE)) for _ in range(60)]
    distances = [frechet.distance(t.statistics(), REFERENCE) for _, t, _ in drawn]
    stated = np.mean([interval.standard_error for _, _, interval in drawn])
    assert stated == pytest.approx(np.std(distances), rel=0.3)


def test_the_interval_holds_its_own_distance_and_repeats_to_the_bit():
    x = draw(np.random.default_rng(6), 300, MADE)
    _, total, one = measured(x)
    assert one == measured(x)[2]
    assert one.low < frechet.distance(total.statistics(), REFERENCE) < one.high
    assert "not another training seed" in one.describe()["covers"]


def test_too_few_samples_get_no_interval():
    assert measured(draw(np.random.default_rng(7), 30, MADE))[2] is None


def test_extrapolation_removes_the_bias_of_few_samples():
    random = np.random.default_rng(8)
    truth = frechet.distance(feature_statistics.of_features(draw(random, 400_000, MADE)), REFERENCE)
    at_n, at_infinity = [], []
    for _ in range(20):
        blocks, total, _ = measured(draw(random, 600, MADE))
        at_n.append(frechet.distance(total.statistics(), REFERENCE) - truth)
        at_infinity.append(intervals.extrapolate(blocks, REFERENCE, seed=0) - truth)
    assert np.mean(at_n) > 3 * np.std(at_n) / np.sqrt(20)  # the bias is there
    assert abs(np.mean(at_infinity)) < 0.35 * np.mean(at_n)


def test_no_extrapolation_from_fewer_samples_than_it_needs():
    blocks, _, _ = measured(draw(np.random.default_rng(9), 80, MADE))
    assert intervals.extrapolate(blocks, REFERENCE, seed=0) is None

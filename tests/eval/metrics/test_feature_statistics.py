"""Streamed mean and covariance, and the .npz files of statistics."""

import numpy as np
import pytest

from eval.metrics import feature_statistics
from eval.metrics.feature_statistics import Accumulator, PackedMoments
from harness.base.errors import DataError


def rows(n, d, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) @ random.standard_normal((d, d)) + 100.0


def accumulated(x):
    accumulator = Accumulator(x.shape[1])
    accumulator.add(x)
    return accumulator.finish()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("n, d, block_rows", [
    (2, 8, 1), (57, 8, 10), (60, 8, 10), (500, 8, 2000), (700, 300, 256), (3, 1, 2),
])
def test_streaming_gives_numpy_s_mean_and_covariance(n, d, block_rows, keep):
    x = rows(n, d)
    accumulator = Accumulator(d, block_rows=block_rows, keep_blocks=keep)
    for part in np.array_split(x, 7):
        accumulator.add(part)
    found = accumulator.finish().statistics()
    assert found.count == n
    np.testing.assert_allclose(found.mu, x.mean(axis=0), rtol=1e-13)
    expected = np.atleast_2d(np.cov(x, rowvar=False))
    np.testing.assert_allclose(found.sigma, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.sigma, found.sigma.T)


def test_how_rows_arrive_does_not_change_a_bit():
    x = rows(101, 5)
    results = []
    for parts in (1, 3, 101):
        accumulator = Accumulator(5, block_rows=16)
        for part in np.array_split(x, parts):
            accumulator.add(part)
        moments = accumulator.finish()
        results.append((moments.mean.tobytes(), moments.statistics().sigma.tobytes()))
    assert len(set(results)) == 1


def test_kept_blocks_add_up_and_can_be_taken_out_again():
    x = rows(90, 6)
    accumulator = Accumulator(6, block_rows=20, keep_blocks=True)
    accumulator.add(x)
    total = accumulator.finish()
    assert [block.count for block in accumulator.blocks] == [20, 20, 20, 20, 10]
    rest = total.without(accumulator.blocks[1].unpack())
    others = np.delete(x, range(20, 40), axis=0)
    assert rest.count == len(others)
    np.testing.assert_allclose(rest.mean, others.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(rest.statistics().sigma, np.cov(others, rowvar=False), rtol=1e-9)


def test_packing_is_exact():
    moments = accumulated(rows(30, 7))
    unpacked = PackedMoments.of(moments).unpack()
    assert unpacked.count == 30
    np.testing.assert_array_equal(unpacked.mean, moments.mean)
    np.testing.assert_array_equal(np.triu(unpacked.scatter), np.triu(moments.scatter))


def test_more_rows_may_follow_and_inputs_are_left_alone():
    x = rows(50, 6)
    before = x.copy()
    accumulator = Accumulator(6, block_rows=20)
    accumulator.add(x[:30])
    accumulator.finish()
    accumulator.add(x[30:])
    found = accumulator.finish().statistics()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(found.sigma, np.cov(x, rowvar=False), rtol=1e-9)


@pytest.mark.parametrize(
    "bad", [np.full((2, 3), np.nan), np.full((2, 3), np.inf), np.zeros((2, 4)), np.zeros(3)]
)
def test_features_that_are_none_are_refused(bad):
    with pytest.raises(DataError):
        Accumulator(3).add(bad)


def test_one_sample_has_no_covariance():
    with pytest.raises(DataError, match="at least 2"):
        feature_statistics.of_features(np.zeros((1, 3)))


def test_a_file_comes_back(tmp_path):
    made = feature_statistics.of_features(rows(20, 4))
    feature_statistics.save(tmp_path / "s.npz", made)
    found = feature_statistics.load(tmp_path / "s.npz", size=4)
    np.testing.assert_array_equal(found.mu, made.mu)
    np.testing.assert_allclose(found.sigma, made.sigma, rtol=1e-15)


def write(path, mu, sigma):
    np.savez(path, mu=np.asarray(mu), sigma=np.asarray(sigma))


@pytest.mark.parametrize("mu, sigma, said", [
    ([0.0, np.nan], np.eye(2), "NaN"),
    ([0.0, 0.0], [[1.0, np.inf], [np.inf, 1.0]], "NaN or infinity"),
    ([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], "not symmetric"),
    ([0.0, 0.0], [[1.0, 0.0], [0.0, -1.0]], "negative variance"),
    ([0.0, 0.0], np.eye(3), r"expected \[d\] and \[d, d\]"),
    ([[0.0, 0.0]], np.eye(2), "expected"),
    (["a", "b"], np.eye(2), "numbers"),
])
def test_statistics_that_are_none_are_refused(tmp_path, mu, sigma, said):
    write(tmp_path / "s.npz", mu, sigma)
    with pytest.raises(DataError, match=said):
        feature_statistics.load(tmp_path / "s.npz")


def test_statistics_of_another_size_are_refused(tmp_path):
    write(tmp_path / "s.npz", np.zeros(3), np.eye(3))
    with pytest.raises(DataError, match="of 3 features, these have 2048"):
        feature_statistics.load(tmp_path / "s.npz", size=2048)


def test_a_file_without_them_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", mean=np.zeros(3))
    with pytest.raises(DataError, match="mu"):
        feature_statistics.load(tmp_path / "s.npz")


def test_float32_statistics_of_others_are_read(tmp_path):
    write(tmp_path / "s.npz", np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
    assert feature_statistics.load(tmp_path / "s.npz").sigma.dtype == np.float64

"""Token merging's kernels against `models.tome` in paddle's operations."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models import tome
from models.cpu import row_threads
from models.cpu.tome_kernels import CpuMerging
from models.tome import TokenMerging

EXTRAS, WIDTH = 6, 24


def tokens(batch, side, seed=0):
    random = np.random.default_rng(seed)
    shape = (batch, EXTRAS + side * side, WIDTH)
    return paddle.to_tensor(random.standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="module")
def norm():
    layer = nn.LayerNorm(WIDTH)
    random = np.random.default_rng(7)
    for parameter in (layer.weight, layer.bias):
        parameter.set_value(random.standard_normal(WIDTH).astype(np.float32))
    return layer


@pytest.fixture(scope="module")
def layer():
    """Something that changes each token."""
    made = nn.Linear(WIDTH, WIDTH)
    made.weight.set_value(np.random.default_rng(8).standard_normal((WIDTH, WIDTH), np.float32))
    return made


def both(merging: TokenMerging, x):
    """(by paddle's operations, by the kernels)"""
    with paddle.no_grad():
        kernels = merging.match(x)
    plain = merging.match(x)
    assert isinstance(kernels, CpuMerging) and isinstance(plain, tome.Merging)
    return plain, kernels


@pytest.mark.parametrize("ratio", [0.02, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("batch, side", [(1, 2), (2, 8), (3, 5), (2, 16)])
def test_the_same_tokens_go_to_the_same_places(batch, side, ratio):
    plain, kernels = both(TokenMerging(side, EXTRAS, ratio, number=side), tokens(batch, side))
    merged = plain.members.shape[2]
    wanted = (plain.home + paddle.arange(batch).unsqueeze(1) * merged).flatten().numpy()
    assert np.array_equal(kernels.home, wanted)
    assert np.array_equal(np.sort(kernels.members), np.arange(wanted.size))
    assert kernels.starts[-1] == wanted.size and len(kernels.starts) == batch * merged + 1


@pytest.mark.parametrize("batch, side", [(1, 2), (2, 8), (3, 5)])
def test_a_branch_gives_the_same(batch, side, norm, layer):
    x = tokens(batch, side, seed=1)
    merging = both(TokenMerging(side, EXTRAS, 0.5), x)
    wanted, found = (m.branch(x, norm, layer).numpy() for m in merging)
    assert not np.array_equal(found, x.numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@paddle.no_grad()
def test_threads_change_no_bit(monkeypatch, norm, layer):
    x = tokens(5, 8, seed=2)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(row_threads, "threads", lambda count=count: count)
        merging = TokenMerging(8, EXTRAS, 0.5).match(x)
        found.append(merging.branch(x, norm, layer).numpy().tobytes())
    assert len(set(found)) == 1


@paddle.no_grad()
def test_equal_tokens_go_in_order(norm):
    """Ties are decided by position, so that they are decided alike everywhere."""
    x = paddle.ones([1, EXTRAS + 16, WIDTH])
    merging = TokenMerging(4, EXTRAS, 0.5)
    home = merging.match(x).home[EXTRAS:]
    first, last = np.split(home[merging.sources], [merging.merged])
    assert set(first) == {EXTRAS + 4}  # the first destination, after the four sources that stay
    assert np.array_equal(last, EXTRAS + np.arange(4))


@paddle.no_grad()
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e30])
def test_strange_tokens_leave_other_samples_alone(value, norm, layer):
    x = tokens(2, 8, seed=3)
    wanted = TokenMerging(8, EXTRAS, 0.5).match(x).branch(x, norm, layer).numpy()
    strange = x.numpy()
    strange[0, EXTRAS + 3] = value
    x = paddle.to_tensor(strange)
    found = TokenMerging(8, EXTRAS, 0.5).match(x).branch(x, norm, layer).numpy()
    assert np.isnan(found[0, EXTRAS + 3]).all() == (not np.isfinite(value))
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)

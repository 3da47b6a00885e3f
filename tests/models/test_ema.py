"""The moving average against its definition, and what a resume and an evaluation need of it."""

import numpy as np
import paddle
import pytest

from baselines.torch_peer import TINY
from harness.base.errors import DataError
from models.cpu import row_threads
from models.ema import EMA
from models.uvit import UViT


def arrays(model):
    return {n: p.numpy() for n, p in model.named_parameters()}


def nudge(model, seed):
    random = np.random.default_rng(seed)
    for p in model.parameters():
        p.set_value(p.numpy() + random.standard_normal(p.shape).astype(np.float32) * 0.1)


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("kernel", ["of models.cpu.kernels", "of paddle"])
def test_starts_as_a_copy_and_decays_from_the_first_step(monkeypatch, kernel):
    if kernel == "of paddle":
        monkeypatch.setattr(row_threads, "tuned", lambda tensor: False)
    model = UViT(**TINY)
    ema = EMA(model, 0.9)
    wanted = {n: a.astype(np.float64) for n, a in arrays(model).items()}
    assert equal(ema.state(), arrays(model))
    for seed in range(3):
        nudge(model, seed)
        ema.update(model)
        wanted = {n: 0.9 * wanted[n] + 0.1 * a for n, a in arrays(model).items()}
    for name, found in ema.state().items():
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[name], atol=1e-6)


def test_a_slow_average_still_moves_in_float32():
    model = paddle.nn.Linear(1, 1)
    model.weight.set_value(np.ones([1, 1], np.float32))
    ema = EMA(model, 0.9999)
    model.weight.set_value(np.full([1, 1], 2, np.float32))
    for _ in range(1000):
        ema.update(model)
    assert ema.state()["weight"][0, 0] == pytest.approx(2 - 0.9999**1000, rel=1e-4)


def test_continues_to_the_same_bits():
    model = UViT(**TINY)
    ema = EMA(model, 0.99)
    nudge(model, 0)
    ema.update(model)
    resumed = EMA(UViT(**TINY), 0.99)
    resumed.load(ema.state())
    nudge(model, 1)
    ema.update(model)
    resumed.update(model)
    assert equal(ema.state(), resumed.state())


def test_the_state_is_a_copy():
    model = UViT(**TINY)
    ema = EMA(model, 0.5)
    state = ema.state()
    before = {n: a.copy() for n, a in state.items()}
    nudge(model, 0)
    ema.update(model)
    assert equal(state, before)


def test_a_state_that_does_not_fit_is_listed_and_refused():
    model = UViT(**TINY)
    ema = EMA(model, 0.9)
    before = ema.state()
    state = {**before, "extra": np.zeros(1, np.float32), "norm.bias": np.zeros(3, np.float32)}
    del state["pos_embed"]
    with pytest.raises(DataError) as error:
        ema.load(state)
    for words in ("missing pos_embed", "unexpected extra", "norm.bias has shape [3], not [32]"):
        assert words in str(error.value)
    assert equal(ema.state(), before)


def test_a_decay_that_is_no_decay_is_refused():
    with pytest.raises(ValueError, match=r"1\.5"):
        EMA(paddle.nn.Linear(1, 1), 1.5)

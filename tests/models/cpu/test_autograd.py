"""The CPU operations against paddle's own, values and gradients."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models import ops

ROWS = 700  # at width 200, three blocks, the last one not full


@pytest.fixture
def plain(monkeypatch):
    """Calls a function with the CPU operations switched off."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(ops, "tuned", lambda x: False)
            return function(*args)

    return call


def tensor(*shape, seed=0, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return paddle.to_tensor(values.astype(np.float32), stop_gradient=False)


def value_and_gradients(function, *inputs):
    out = function(*inputs)
    return [out, *paddle.grad(out, list(inputs), tensor(*out.shape, seed=9))]


def assert_close(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-5 * float(theirs.abs().max())
        )


def test_linear(plain):
    inputs = (tensor(2, ROWS, 20), tensor(20, 30, seed=1), tensor(30, seed=2))
    args = (value_and_gradients, ops.linear, *inputs)
    assert_close(value_and_gradients(ops.linear, *inputs), plain(*args))
    bare = (ops.linear, *inputs[:2])
    assert_close(value_and_gradients(*bare), plain(value_and_gradients, *bare))


def test_linear_is_added_to_something(plain):
    inputs = (tensor(2, ROWS, 20), tensor(20, 30, seed=1), tensor(30, seed=2))
    onto = tensor(2, ROWS, 30, seed=3)
    args = (value_and_gradients, ops.linear, *inputs, onto)
    assert_close(value_and_gradients(ops.linear, *inputs, onto), plain(*args))

    def without_bias(x, weight, onto):
        return ops.linear(x, weight, None, onto)

    args = (value_and_gradients, without_bias, *inputs[:2], onto)
    assert_close(value_and_gradients(*args[1:]), plain(*args))


def test_linear_leaves_out_gradients_that_nobody_wants():
    x, weight, bias = tensor(3, 4), tensor(4, 5), tensor(5)
    x.stop_gradient = bias.stop_gradient = True
    ops.linear(x, weight, bias).sum().backward()
    assert x.grad is None and bias.grad is None
    wanted = np.repeat(x.numpy().sum(0)[:, None], 5, axis=1)
    np.testing.assert_allclose(weight.grad.numpy(), wanted, rtol=1e-5)


def test_layer_norm(plain):
    layer = nn.LayerNorm(200)
    layer.weight.set_value(tensor(200, seed=3))
    layer.bias.set_value(tensor(200, seed=4))
    # a mean far from zero costs digits where it is not taken off first
    inputs = (tensor(2, ROWS, 200) + 5, layer.weight, layer.bias)

    def run(x, weight, bias):
        return ops.layer_norm(x, layer)

    assert_close(value_and_gradients(run, *inputs), plain(value_and_gradients, run, *inputs))


def test_branch(plain):
    layer = nn.LayerNorm(200)
    layer.weight.set_value(tensor(200, seed=3))
    inputs = (tensor(2, ROWS, 200), layer.weight, layer.bias)

    def run(x, weight, bias):
        x, normed = ops.branch(x, layer)
        return x * tensor(200, seed=5) + normed

    assert_close(value_and_gradients(run, *inputs), plain(value_and_gradients, run, *inputs))


def test_gelu(plain):
    inputs = tensor(2, ROWS, 200, scale=3.0), tensor(200, seed=1)
    assert_close(
        value_and_gradients(ops.gelu, *inputs), plain(value_and_gradients, ops.gelu, *inputs)
    )
    ends = paddle.to_tensor([[-1e4, -20.0, 0.0, 20.0, 1e4]], stop_gradient=False)
    bias = paddle.zeros([5])
    bias.stop_gradient = False
    out, *gradients = value_and_gradients(ops.gelu, ends, bias)
    np.testing.assert_allclose(out.numpy(), [[0, 0, 0, 20, 1e4]], atol=1e-6)
    assert all(np.isfinite(g.numpy()).all() for g in gradients)


def test_gelu_has_the_same_bits_without_gradients():
    x, bias = tensor(ROWS, 200), tensor(200, seed=1)
    with paddle.no_grad():
        bare = ops.gelu(x, bias).numpy()
    assert np.array_equal(ops.gelu(x.detach(), bias.detach()).numpy(), bare)
    assert np.array_equal(ops.gelu(x, bias).numpy(), bare)


def attention_in_float64(qkv, heads, weights):
    """Softmax attention of a packed (N, L, 3 H D), and the gradient of its sum times `weights`."""
    n, length, width = qkv.shape
    packed = qkv.astype(np.float64).reshape(n, length, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    query, key, value = packed
    scale = value.shape[-1] ** -0.5
    scores = query @ key.swapaxes(-1, -2) * scale
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    onto = weights.astype(np.float64).reshape(n, length, heads, -1).transpose(0, 2, 1, 3)
    of_shares = onto @ value.swapaxes(-1, -2)
    of_scores = shares * (of_shares - (of_shares * shares).sum(-1, keepdims=True)) * scale
    gradients = np.stack([of_scores @ key, of_scores.swapaxes(-1, -2) @ query,
                          shares.swapaxes(-1, -2) @ onto])
    out = (shares @ value).transpose(0, 2, 1, 3).reshape(n, length, width // 3)
    return out, gradients.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)


@pytest.mark.parametrize(
    "scale", [1.0, 4.0, 30.0], ids=["ordinary", "around the limit", "scores in the thousands"]
)
def test_attention(plain, scale):
    qkv = tensor(2, 90, 3 * 4 * 8, scale=scale)

    def run(x):
        return ops.attention(x, 4)

    exact = attention_in_float64(qkv.numpy(), 4, tensor(2, 90, 4 * 8, seed=9).numpy())
    found, theirs = value_and_gradients(run, qkv), plain(value_and_gradients, run, qkv)
    for ours, own, wanted in zip(found, theirs, exact, strict=True):
        largest = np.abs(wanted).max()
        error, usual = (np.abs(one.numpy() - wanted).max() / largest for one in (ours, own))
        assert error <= max(2e-5, 2 * usual)


def test_scores_of_thousands_neither_overflow_nor_vanish():
    qkv = tensor(1, 6, 3 * 4, scale=0.0)
    rows = qkv.numpy()
    rows[0, :, :4] = rows[0, :, 4:8] = 60.0 * np.eye(6, 4)  # scores of 1,800 and of 0
    rows[0, :, 8:] = np.arange(24).reshape(6, 4)
    found = ops.attention(paddle.to_tensor(rows), 1).numpy()[0]  # the first four see themselves
    np.testing.assert_allclose(found[:4], rows[0, :4, 8:], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(found[4:], np.tile(rows[0, :, 8:].mean(0), (2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    "function", [lambda x: ops.gelu(x, paddle.zeros([12])), lambda x: ops.attention(x, 2)]
)
def test_nan_comes_out_where_nan_goes_in(function):
    values = tensor(1, 5, 12).numpy()
    values[0, 2, 3] = np.nan
    x = paddle.to_tensor(values)
    assert np.isnan(function(x).numpy()).any()


@pytest.mark.parametrize("threads", ["2", "3"])
def test_the_number_of_threads_changes_no_bit(monkeypatch, threads):
    layer = nn.LayerNorm(200)
    inputs = tensor(2, ROWS, 200), tensor(3, 41, 3 * 4 * 8)

    def run():
        gelu = value_and_gradients(ops.gelu, inputs[0], tensor(200, seed=1))
        norm = value_and_gradients(
            lambda x, *_: ops.layer_norm(x, layer), inputs[0], layer.weight, layer.bias
        )
        attention = value_and_gradients(lambda x: ops.attention(x, 4), inputs[1])
        return [t.numpy() for t in (*gelu, *norm, *attention)]

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = run()
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert all(map(np.array_equal, alone, run()))


def test_attention_of_a_sample_has_the_same_bits_whatever_scores_the_others_have():
    calm, wild = tensor(1, 40, 3 * 32), tensor(1, 40, 3 * 32, seed=1, scale=100.0)
    pair = [ops.attention(paddle.concat([calm, other]), 4).numpy()[0] for other in (calm, wild)]
    assert np.array_equal(*pair)


def test_layer_norm_of_a_constant_row_has_finite_gradients(plain):
    layer = nn.LayerNorm(20)
    x = paddle.full([2, 20], 3.0)
    x.stop_gradient = False
    inputs = (x, layer.weight, layer.bias)

    def run(x, weight, bias):
        return ops.layer_norm(x, layer)

    assert_close(value_and_gradients(run, *inputs), plain(value_and_gradients, run, *inputs))

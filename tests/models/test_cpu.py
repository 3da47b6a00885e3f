"""The CPU operations against paddle's own, values and gradients."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models import cpu, ops

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


def test_gelu(plain):
    x = tensor(2, ROWS, 200, scale=3.0)
    assert_close(value_and_gradients(ops.gelu, x), plain(value_and_gradients, ops.gelu, x))
    ends = paddle.to_tensor([[-1e4, -20.0, 0.0, 20.0, 1e4]], stop_gradient=False)
    out, gradient = value_and_gradients(ops.gelu, ends)
    np.testing.assert_allclose(out.numpy(), [[0, 0, 0, 20, 1e4]], atol=1e-6)
    assert np.isfinite(gradient.numpy()).all()


def test_gelu_has_the_same_bits_without_gradients():
    x = tensor(ROWS, 200)
    with paddle.no_grad():
        assert np.array_equal(ops.gelu(x).numpy(), ops.gelu(x.detach()).numpy())
        bare = ops.gelu(x).numpy()
    assert np.array_equal(ops.gelu(x).numpy(), bare)


@pytest.mark.parametrize(
    "scale", [1.0, 4.0, 30.0], ids=["ordinary", "around the limit", "scores in the thousands"]
)
def test_attention(plain, scale):
    qkv = tensor(2, 90, 3 * 4 * 8, scale=scale)

    def run(x):
        return ops.attention(x, 4)

    assert_close(value_and_gradients(run, qkv), plain(value_and_gradients, run, qkv))


def test_exponentials_are_shifted_where_they_must_be_and_only_there():
    scores = np.zeros((1, 3, 2, 2), np.float32)
    scores[0, 0] = [[40, -40], [1, 2]]
    scores[0, 1] = [[1e30, 0], [-1e30, -1e30]]
    scores[0, 2] = [[1000, 1000], [-999, -1000]]
    found = paddle.to_tensor(scores)
    cpu.exponentials_(found, np.abs(scores).max(axis=(-2, -1)))
    np.testing.assert_array_equal(found.numpy()[0, 0], np.exp(scores[0, 0]))
    np.testing.assert_allclose(found.numpy()[0, 1], [[1, 0], [1, 1]])
    np.testing.assert_allclose(found.numpy()[0, 2], [[1, 1], [1, np.exp(-1)]], rtol=1e-6)


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


def test_row_blocks_cover_every_row_once_even_where_a_row_is_more_than_a_block():
    for rows, width in ((ROWS, 200), (3, cpu.BLOCK + 1), (0, 5)):
        table = np.zeros((rows, width), np.float32)
        for (block,) in cpu.row_blocks(table):
            block += 1
        assert (table == 1).all()


def test_array_shares_the_tensors_memory():
    x = paddle.zeros([2, 3, 4])
    cpu.array(x)[5] = 7
    assert x.numpy()[1, 2].tolist() == [7] * 4

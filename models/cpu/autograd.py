"""U-ViT's operations for a CPU in float32, where paddle 2.6's own kernels leave time on the table.

Large matrix products stay paddle's. What paddle computes in many passes over memory, mostly on one
thread (GELU, LayerNorm, sums over rows), is done by `models.cpu.kernels` on the tensors' own
memory, attention by `models.cpu.attention_kernels`. Values are those of `models.ops`'
plain versions to rounding. How the work is cut depends on shapes alone, and so do the bits.

`backward()` works as ever. `paddle.grad` of a part of what a layer here was given is refused by
paddle, as for any PyLayer: set `stop_gradient` of the rest (the parameters, say) first.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.cpu import blas, kernels
from models.cpu.row_threads import array, column_sums, scratch, shared

if blas.AVAILABLE:
    from models.cpu import attention_kernels


class Linear(PyLayer):
    """x weight + bias + onto; its backward pass has one product each for x and weight.

    Paddle's own multiplies sample by sample in the backward pass and sums the results, and sums
    the bias's gradient by a slow reduction (12 ms against 0.5 ms, at 1,336 x 2,048).
    """

    @staticmethod
    def forward(ctx, x, weight, bias=None, onto=None):
        ctx.save_for_backward(x, weight)
        ctx.wants = [None if t is None else not t.stop_gradient for t in (x, weight, bias, onto)]
        return linear(x, weight, bias, onto)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        grad = grad.contiguous()
        makers = [
            lambda: paddle.matmul(grad, weight, transpose_y=True),
            lambda: paddle.matmul(_rows(x), _rows(grad), transpose_x=True),
            lambda: _column_sums(grad),
            lambda: grad,
        ]
        # Paddle wants no gradient, not even None, of what was no tensor.
        wanted = [pair for pair in zip(makers, ctx.wants, strict=True) if pair[1] is not None]
        return _gradients(make() if want else None for make, want in wanted)


class Branch(PyLayer):
    """x once more, to go on with, and its LayerNorm over the last axis, with weight and bias.

    A copy, written while x is at hand, costs less than adding up the gradients of two uses of x.
    Both results must be used: paddle 2.6 crashes over a result of a PyLayer that is not.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        return _normed(ctx, x, weight, bias, epsilon)

    @staticmethod
    def backward(ctx, grad_copy, grad):
        return _normed_backward(ctx, grad_copy.contiguous(), grad.contiguous())


class LayerNorm(PyLayer):
    """LayerNorm over the last axis, with weight and bias."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        return _normed(ctx, x, weight, bias, epsilon)[1]

    @staticmethod
    def backward(ctx, grad):
        return _normed_backward(ctx, paddle.zeros_like(grad), grad.contiguous())


def _normed(ctx, x, weight, bias, epsilon):
    ctx.save_for_backward(x, weight)
    ctx.epsilon = epsilon
    ctx.wants = [not t.stop_gradient for t in (x, weight, bias)]
    copy, out = paddle.empty_like(x), paddle.empty_like(x)
    xs, copies, outs = (_rows_of(t) for t in (x, copy, out))
    w, b = array(weight), array(bias)
    shared(lambda start, stop: kernels.layer_norm(
        xs[start:stop], w, b, epsilon, copies[start:stop], outs[start:stop]), len(xs))
    return copy, out


def _normed_backward(ctx, grad_copy, grad):
    x, weight = ctx.saved_tensor()
    grad_x, w = paddle.empty_like(x), array(weight)
    xs, gs, others, out = (_rows_of(t) for t in (x, grad, grad_copy, grad_x))

    def work(part, sums):
        kernels.layer_norm_backward(
            xs[part], gs[part], others[part], w, ctx.epsilon, out[part], sums
        )

    grad_weight, grad_bias = map(paddle.to_tensor, column_sums(work, len(xs), 2, w.size))
    made = (grad_x, grad_weight, grad_bias)
    return _gradients(g if want else None for g, want in zip(made, ctx.wants, strict=True))


class Gelu(PyLayer):
    """Exact GELU of x + bias. Keeps its derivative, not its input: backward is one product."""

    @staticmethod
    def forward(ctx, x, bias):
        out, derivative = paddle.empty_like(x), paddle.empty_like(x)
        xs, outs, ds = (_rows_of(t) for t in (x, out, derivative))
        b = array(bias)
        shared(lambda start, stop: kernels.gelu_with_derivative(
            xs[start:stop], b, outs[start:stop], ds[start:stop]), len(xs))
        ctx.save_for_backward(derivative)
        ctx.wants = [not t.stop_gradient for t in (x, bias)]
        return out

    @staticmethod
    def backward(ctx, grad):
        (derivative,) = ctx.saved_tensor()
        grad, grad_x = grad.contiguous(), paddle.empty_like(grad)
        gs, ds, out = (_rows_of(t) for t in (grad, derivative, grad_x))

        def work(part, sums):
            kernels.product_and_sums(gs[part], ds[part], out[part], sums)

        made = (grad_x, paddle.to_tensor(column_sums(work, len(gs), gs.shape[1])))
        return _gradients(g if want else None for g, want in zip(made, ctx.wants, strict=True))


class Attention(PyLayer):
    """softmax(q k' / sqrt(d)) v from qkv [B, L, 3 H d], laid out (3, H, d), to [B, L, H d]."""

    @staticmethod
    def forward(ctx, qkv, num_heads):
        out = attend(qkv, num_heads)
        ctx.num_heads = num_heads
        ctx.save_for_backward(qkv, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        qkv, out = ctx.saved_tensor()
        grad, grad_qkv = grad.contiguous(), paddle.empty_like(qkv)
        parts, grad_parts = _parts(qkv, ctx.num_heads), _parts(grad_qkv, ctx.num_heads)
        b, length, _, num_heads, width = parts.shape
        shape = [b, length, num_heads, width]
        outs, grads = array(out).reshape(shape), array(grad).reshape(shape)

        def work(start, stop):
            attention_kernels.backward(
                parts, np.float32(width**-0.5), outs, grads, grad_parts,
                scratch(length, length), scratch(length), scratch(length, length),
                scratch(length, width), start, stop,
            )

        shared(work, b * num_heads)
        return grad_qkv


def attention(qkv, num_heads: int):
    """`Attention`, in the same bits with and without gradients (recompute needs that)."""
    if paddle.is_grad_enabled() and not qkv.stop_gradient:
        return Attention.apply(qkv, num_heads)
    return attend(qkv, num_heads)


def attend(qkv, num_heads: int):
    """[B, L, H d], without gradients (see `models.cpu.attention_kernels`)."""
    parts = _parts(qkv, num_heads)
    b, length, _, _, width = parts.shape
    out = paddle.empty([b, length, num_heads * width])
    outs = array(out).reshape(b, length, num_heads, width)
    shared(lambda start, stop: attention_kernels.forward(
        parts, np.float32(width**-0.5), outs, scratch(length, length), scratch(length),
        start, stop), b * num_heads)
    return out


def _parts(qkv, num_heads: int) -> np.ndarray:
    """[B, L, 3, H, d]"""
    b, length, width = qkv.shape
    return array(qkv).reshape(b, length, 3, num_heads, width // (3 * num_heads))


def linear(x, weight, bias=None, onto=None):
    """x [..., M] times weight [M, N] plus bias [N], added to `onto` [..., N]."""
    out = paddle.matmul(x, weight)
    if bias is None and onto is None:
        return out
    rows = _rows_of(out)
    added = np.zeros(rows.shape[1], np.float32) if bias is None else array(bias)
    if onto is None:
        shared(lambda start, stop: kernels.add_to_rows(rows[start:stop], added), len(rows))
    else:
        others = _rows_of(onto)
        shared(lambda start, stop: kernels.add_to_rows_and(
            rows[start:stop], added, others[start:stop]), len(rows))
    return out


def gelu(x, bias):
    """Exact GELU of x + bias, in the same bits with and without gradients."""
    if paddle.is_grad_enabled() and not (x.stop_gradient and bias.stop_gradient):
        return Gelu.apply(x, bias)
    out = paddle.empty_like(x)
    xs, outs, b = _rows_of(x), _rows_of(out), array(bias)
    shared(lambda start, stop: kernels.gelu(xs[start:stop], b, outs[start:stop]), len(xs))
    return out


def _column_sums(x):
    """The sum of a tensor's rows, [..., D] -> [D]."""
    xs = _rows_of(x)

    def work(part, sums):
        kernels.add_rows(xs[part], sums)

    return paddle.to_tensor(column_sums(work, len(xs), xs.shape[1]))


def _rows(x):
    return x.reshape([-1, x.shape[-1]])


def _rows_of(x) -> np.ndarray:
    return array(x).reshape(-1, x.shape[-1])


def _gradients(gradients):
    gradients = tuple(gradients)
    return gradients[0] if len(gradients) == 1 else gradients

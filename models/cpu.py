"""U-ViT's operations for a CPU in float32, where paddle 2.6's own kernels leave time on the table.

Matrix products stay paddle's. What paddle computes on one thread in many passes over memory
(softmax, the backward passes of LayerNorm and GELU, sums over rows) is done here with numpy on the
tensors' own memory, a block of rows at a time, small enough to stay in a core's cache. Values are
those of `models.ops`' plain versions to rounding. Blocks depend on shapes alone, so the bits
depend on nothing else.
"""

from __future__ import annotations

import ctypes
import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

BLOCK = 64 * 1024  # floats: 256 KiB, a few such arrays fit the second-level cache


def array(tensor) -> np.ndarray:
    """The memory of a contiguous float32 CPU tensor as rows, [-1, last axis], without a copy.

    Writing to it writes to the tensor. The tensor has to outlive it.
    """
    if not tensor.is_contiguous():
        raise ValueError("only a contiguous tensor can be seen as an array")
    pointer = ctypes.cast(tensor.data_ptr(), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=(tensor.size,)).reshape(-1, tensor.shape[-1])


def row_blocks(*arrays: np.ndarray):
    """The same rows of each of `arrays` ([rows, width]), block by block."""
    rows, width = arrays[0].shape
    step = max(1, BLOCK // width)
    for start in range(0, rows, step):
        yield tuple(a[start : start + step] for a in arrays)


class Linear(PyLayer):
    """x weight + bias; its backward pass has one product each for x, weight and bias.

    Paddle's own multiplies by sample and sums the results, and sums the bias's gradient by a slow
    reduction (12 ms against 0.3 ms for a product with ones, at 1,336 x 2,048).
    """

    @staticmethod
    def forward(ctx, x, weight, bias=None):
        ctx.save_for_backward(x, weight)
        ctx.wants = [not t.stop_gradient for t in (x, weight, bias) if t is not None]
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        rows = grad.reshape([-1, grad.shape[-1]])
        makers = [
            lambda: paddle.matmul(grad, weight, transpose_y=True),
            lambda: paddle.matmul(x.reshape([-1, x.shape[-1]]), rows, transpose_x=True),
            lambda: paddle.matmul(paddle.ones([1, rows.shape[0]]), rows).reshape([-1]),
        ]
        wanted = zip(makers, ctx.wants, strict=False)  # without a bias, two of the three
        return _gradients(make() if want else None for make, want in wanted)


class LayerNorm(PyLayer):
    """LayerNorm over the last axis, with weight and bias."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        ctx.wants = [not t.stop_gradient for t in (x, weight, bias)]
        return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)

    @staticmethod
    def backward(ctx, grad):
        x, weight = (t.contiguous() for t in ctx.saved_tensor())
        grad, grad_x = grad.contiguous(), paddle.empty_like(x)
        w = array(weight)[0]
        grad_weight, grad_bias = np.zeros_like(w), np.zeros_like(w)
        for xs, gs, out in row_blocks(array(x), array(grad), array(grad_x)):
            normed, scale = _normalise(xs, ctx.epsilon)
            product = gs * normed
            grad_weight += product.sum(0)
            grad_bias += gs.sum(0)
            # d/dx = scale (g w - mean(g w) - normed mean(g w normed))
            normed *= (np.einsum("ij,j->i", product, w) / w.size)[:, None]
            np.multiply(gs, w, out=out)
            out -= (np.einsum("ij,j->i", gs, w) / w.size)[:, None]
            out -= normed
            out *= scale
        made = (grad_x, paddle.to_tensor(grad_weight), paddle.to_tensor(grad_bias))
        return _gradients(g if want else None for g, want in zip(made, ctx.wants, strict=True))


class Gelu(PyLayer):
    """Exact GELU. Keeps its derivative instead of its input: backward is one product."""

    @staticmethod
    def forward(ctx, x):
        cumulative = _normal_cdf(x)
        out = x * cumulative
        derivative = cumulative  # in place: Phi(x) + x phi(x)
        for xs, ds in row_blocks(array(x.contiguous()), array(derivative)):
            density = xs * xs
            density *= -0.5
            np.exp(density, out=density)
            density *= xs
            density *= np.float32(1 / math.sqrt(2 * math.pi))
            ds += density
        ctx.save_for_backward(derivative)
        return out

    @staticmethod
    def backward(ctx, grad):
        (derivative,) = ctx.saved_tensor()
        return grad * derivative


class Attention(PyLayer):
    """softmax(q k' / sqrt(d)) v from qkv [B, L, 3 H d], laid out (3, H, d), to [B, L, H d]."""

    @staticmethod
    def forward(ctx, qkv, num_heads):
        b, length, width = qkv.shape
        heads = qkv.reshape([b, length, 3, num_heads, -1]).transpose([2, 0, 3, 1, 4])
        q, k, v = paddle.unbind(heads)
        q = q * q.shape[-1] ** -0.5
        probabilities = paddle.matmul(q, k, transpose_y=True)
        softmax_(probabilities)
        out = paddle.matmul(probabilities, v)
        ctx.save_for_backward(q, k, v, probabilities, out)
        return out.transpose([0, 2, 1, 3]).reshape([b, length, width // 3])

    @staticmethod
    def backward(ctx, grad):
        q, k, v, probabilities, out = ctx.saved_tensor()
        b, num_heads, length, head = q.shape
        grad = grad.reshape([b, length, num_heads, head]).transpose([0, 2, 1, 3])
        grad_v = paddle.matmul(probabilities, grad, transpose_x=True)
        scores = paddle.matmul(grad, v, transpose_y=True)
        # softmax's derivative, where sum(p dp) is the same as sum(out grad)
        shift = paddle.matmul(grad * out, paddle.ones([head, 1]))
        for ds, ps, ms in row_blocks(array(scores), array(probabilities), array(shift)):
            ds -= ms
            ds *= ps
        grad_q = paddle.matmul(scores, k) * head**-0.5
        grad_k = paddle.matmul(scores, q, transpose_x=True)
        heads = paddle.stack([grad_q, grad_k, grad_v])
        return heads.transpose([1, 3, 0, 2, 4]).reshape([b, length, 3 * num_heads * head])


def softmax_(scores) -> None:
    """Softmax over the last axis, in place."""
    for (block,) in row_blocks(array(scores)):
        block -= block.max(axis=-1, keepdims=True)
        np.exp(block, out=block)
        block *= 1 / block.sum(axis=-1, keepdims=True)


def gelu(x):
    """Exact GELU, in the same bits with and without gradients (recompute needs that)."""
    if paddle.is_grad_enabled() and not x.stop_gradient:
        return Gelu.apply(x)
    return x * _normal_cdf(x)


def _normal_cdf(x):
    """Phi(x) = (1 + erf(x / sqrt 2)) / 2, a new contiguous tensor."""
    return paddle.erf(x * math.sqrt(0.5)).scale_(0.5, 0.5)


def _normalise(rows, epsilon):
    """(rows - mean) / std and 1 / std, row by row."""
    width = np.float32(rows.shape[-1])
    centred = rows - rows.sum(-1, keepdims=True) / width
    variance = np.einsum("ij,ij->i", centred, centred) / width
    scale = (1 / np.sqrt(variance + np.float32(epsilon)))[:, None]
    centred *= scale
    return centred, scale


def _gradients(gradients):
    gradients = tuple(gradients)
    return gradients[0] if len(gradients) == 1 else gradients

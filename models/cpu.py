"""U-ViT's operations for a CPU in float32, where paddle 2.6's own kernels leave time on the table.

Matrix products stay paddle's. What paddle computes on one thread in many passes over memory
(softmax, the backward passes of LayerNorm and GELU, sums over rows) is done here with numpy on the
tensors' own memory, a block of rows at a time, small enough to stay in a core's cache. Values are
those of `models.ops`' plain versions to rounding. Blocks depend on shapes alone, so the bits
depend on nothing else.

`backward()` works as ever. `paddle.grad` of a part of what a layer here was given is refused by
paddle, as for any PyLayer: set `stop_gradient` of the rest (the parameters, say) first.
"""

from __future__ import annotations

import ctypes
import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

BLOCK = 64 * 1024  # floats: 256 KiB, a few such arrays fit the second-level cache
MAX_UNSHIFTED = 40.0  # exp(+-40), squared and summed, is far within float32's range


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

    Paddle's own adds the bias in a pass of its own, multiplies sample by sample in the backward
    pass and sums the results, and sums the bias's gradient by a slow reduction (12 ms against
    0.3 ms for a product with ones, at 1,336 x 2,048).
    """

    @staticmethod
    def forward(ctx, x, weight, bias=None):
        ctx.save_for_backward(x, weight)
        ctx.wants = [not t.stop_gradient for t in (x, weight, bias) if t is not None]
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        rows = _rows(grad)
        makers = [
            lambda: paddle.matmul(grad, weight, transpose_y=True),
            lambda: paddle.matmul(_rows(x), rows, transpose_x=True),
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
        x, weight = ctx.saved_tensor()
        normed = F.layer_norm(x, x.shape[-1:], None, None, ctx.epsilon)
        grad_x = paddle.empty_like(x)
        w = array(weight)[0]
        grad_weight, grad_bias = np.zeros_like(w), np.zeros_like(w)
        for xs, ns, gs, out in row_blocks(*map(array, (x, normed, grad.contiguous(), grad_x))):
            scale = _inverse_std(xs, ns, ctx.epsilon)
            product = gs * ns
            grad_weight += product.sum(0)
            grad_bias += gs.sum(0)
            # d/dx = scale (g w - mean(g w) - normed mean(g w normed))
            ns *= (np.einsum("ij,j->i", product, w) / w.size)[:, None]
            np.multiply(gs, w, out=out)
            out -= (np.einsum("ij,j->i", gs, w) / w.size)[:, None]
            out -= ns
            out *= scale[:, None]
        made = (grad_x, paddle.to_tensor(grad_weight), paddle.to_tensor(grad_bias))
        return _gradients(g if want else None for g, want in zip(made, ctx.wants, strict=True))


class Gelu(PyLayer):
    """Exact GELU. Keeps its derivative instead of its input: backward is one product."""

    @staticmethod
    def forward(ctx, x):
        cumulative = _normal_cdf(x)
        density = (x * x).scale_(-0.5, -0.5 * math.log(2 * math.pi))
        _exp_(density)
        ctx.save_for_backward(density.multiply_(x).add_(cumulative))  # x phi(x) + Phi(x)
        return x * cumulative

    @staticmethod
    def backward(ctx, grad):
        (derivative,) = ctx.saved_tensor()
        return grad * derivative


class Attention(PyLayer):
    """softmax(q k' / sqrt(d)) v from qkv [B, L, 3 H d], laid out (3, H, d), to [B, L, H d].

    The exponentials e stay as they are; what is divided by their sums z is [L, d], not [L, L].
    """

    @staticmethod
    def forward(ctx, qkv, num_heads):
        b, length, width = qkv.shape
        heads = qkv.reshape([b, length, 3, num_heads, -1]).transpose([2, 0, 3, 1, 4])
        q, k, v = paddle.unbind(heads)
        q = q * q.shape[-1] ** -0.5
        e = paddle.matmul(q, k, transpose_y=True)
        exponentials_(e, _largest_norm(q) * _largest_norm(k))
        z = paddle.matmul(e, paddle.ones([length, 1]))
        out = paddle.matmul(e, v) / z
        ctx.save_for_backward(q, k, v, e, z, out)
        return out.transpose([0, 2, 1, 3]).reshape([b, length, width // 3])

    @staticmethod
    def backward(ctx, grad):
        q, k, v, e, z, out = ctx.saved_tensor()
        b, num_heads, length, head = q.shape
        grad = grad.reshape([b, length, num_heads, head]).transpose([0, 2, 1, 3]) / z
        grad_v = paddle.matmul(e, grad, transpose_x=True)
        scores = paddle.matmul(grad, v, transpose_y=True)
        # the softmax's derivative, where sum(p dp) is the same as sum(out grad)
        shift = paddle.matmul(grad * out, paddle.ones([head, 1]))
        for ds, es, ms in row_blocks(array(scores), array(e), array(shift)):
            ds -= ms
            ds *= es
        grad_q = paddle.matmul(scores, k).scale_(head**-0.5)
        grad_k = paddle.matmul(scores, q, transpose_x=True)
        heads = paddle.stack([grad_q, grad_k, grad_v])
        return heads.transpose([1, 3, 0, 2, 4]).reshape([b, length, 3 * num_heads * head])


def linear(x, weight, bias=None):
    """x [..., M] times weight [M, N] plus bias [N], which the product itself starts from."""
    if bias is None:
        return paddle.matmul(x, weight)
    out = paddle.addmm(bias.reshape([1, -1]), _rows(x), weight)
    return out.reshape([*x.shape[:-1], weight.shape[1]])


def exponentials_(scores, bounds: np.ndarray) -> None:
    """exp(scores), in place, up to a positive factor for each row of the last axis.

    Args:
        scores: float32 [B, H, L, L].
        bounds: [B, H], no score of a head is larger than its bound, in size.

    Softmax does not see a row's factor. Rows are divided by exp(their maximum) where they have
    to be; where all scores of a head lie within +-40, nothing can overflow or vanish, and two
    passes over memory are saved. Each head of each sample decides for itself, so that a sample's
    bits do not depend on the rest of its batch.
    """
    length = scores.shape[-1]
    for head, bound in zip(
        array(scores).reshape(-1, scores.shape[-2], length), bounds.reshape(-1), strict=True
    ):
        for (rows,) in row_blocks(head):
            if not bound <= MAX_UNSHIFTED:
                rows -= rows.max(axis=-1, keepdims=True)
            np.exp(rows, out=rows)


def gelu(x):
    """Exact GELU, in the same bits with and without gradients (recompute needs that)."""
    if paddle.is_grad_enabled() and not x.stop_gradient:
        return Gelu.apply(x)
    return x * _normal_cdf(x)


def _normal_cdf(x):
    """Phi(x) = (1 + erf(x / sqrt 2)) / 2, a new contiguous tensor."""
    return paddle.erf(x * math.sqrt(0.5)).scale_(0.5, 0.5)


def _exp_(x) -> None:
    """In place; numpy's is several times as fast as paddle's."""
    values = array(x)
    np.exp(values, out=values)


def _largest_norm(x) -> np.ndarray:
    """The length of each head's longest row: [B, H, L, d] -> [B, H]."""
    squares = paddle.matmul(x * x, paddle.ones([x.shape[-1], 1]))
    return np.sqrt(squares.numpy().max(axis=(-2, -1)))


def _inverse_std(rows, normed, epsilon) -> np.ndarray:
    """By what each row was multiplied to give `normed` = scale (row - mean), [rows].

    sum(row normed) = sum(normed^2) / scale, because the sum of `normed` is zero.
    """
    squares = np.einsum("ij,ij->i", normed, normed)
    products = np.einsum("ij,ij->i", rows, normed)
    constant = squares == 0  # all of the row the same: only epsilon is left of the variance
    scale = squares / np.where(constant, 1, products)
    return np.where(constant, np.float32(epsilon**-0.5), scale)


def _rows(x):
    return x.reshape([-1, x.shape[-1]])


def _gradients(gradients):
    gradients = tuple(gradients)
    return gradients[0] if len(gradients) == 1 else gradients

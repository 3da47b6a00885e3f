"""The operations that a U-ViT is made of: paddle's own, or `models.cpu`'s where they pay."""

from __future__ import annotations

from functools import lru_cache

import paddle
import paddle.nn.functional as F

from harness.base.errors import EnvironmentFault
from models.cpu import autograd, blas
from models.cpu.row_threads import tuned


def cast(x, dtype):
    """`x` itself if it has the dtype already (paddle's own cast would copy it)."""
    return x if x.dtype == dtype else x.astype(dtype)


def without_first(x, count: int):
    """x [B, L, D] less the first `count` tokens, contiguous.

    Paddle's own default, FLAGS_use_stride_kernel=1, makes a view of a slice; in a graph none is.
    """
    if not count:
        return x
    x = x[:, count:]
    return x.contiguous() if paddle.in_dynamic_mode() else x


def linear(x, weight, bias=None, onto=None):
    """[..., M] times weight [M, N] plus bias [N], added to `onto` [..., N] in its dtype."""
    if tuned(x):
        return autograd.Linear.apply(x, weight, bias, onto)
    out = F.linear(x, weight, bias)
    return out if onto is None else onto + cast(out, onto.dtype)


def layer_norm(x, layer):
    """LayerNorm over the last axis with the weight, bias and epsilon of an `nn.LayerNorm`."""
    if tuned(x):
        return autograd.LayerNorm.apply(x, layer.weight, layer.bias, layer._epsilon)
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer._epsilon)


def branch(x, layer):
    """x to go on with, and its LayerNorm, for a branch that is added to it later.

    That x is a copy: it gathers the gradients of both before others are added (a long skip's).
    Recompute adds in that order too, so that it leaves the bits as they are.
    """
    if tuned(x):
        return autograd.Branch.apply(x, layer.weight, layer.bias, layer._epsilon)
    x = paddle.assign(x)
    return x, layer_norm(x, layer)


def gelu(x, bias):
    """Exact GELU, v * Phi(v) by erf, of v = x + bias; x [..., D], bias [D]."""
    return autograd.gelu(x, bias) if tuned(x) else F.gelu(x + cast(bias, x.dtype))


def attention(qkv, num_heads: int):
    """softmax(q k' / sqrt(d)) v: [B, L, 3 H d] -> [B, L, H d]."""
    if tuned(qkv) and blas.AVAILABLE:
        return autograd.attention(qkv, num_heads)
    b, length, width = qkv.shape
    qkv = qkv.reshape([b, length, 3, num_heads, -1]).transpose([2, 0, 3, 1, 4])
    q, k, v = paddle.unbind(qkv)
    scores = paddle.matmul(q * q.shape[-1] ** -0.5, k, transpose_y=True)
    out = paddle.matmul(F.softmax(scores, axis=-1), v)
    return out.transpose([0, 2, 1, 3]).reshape([b, length, width // 3])


def memory_efficient_attention(qkv, num_heads: int):
    """As `attention`, by the fused GPU kernel that never holds the L x L scores."""
    from paddle.incubate.nn.memory_efficient_attention import memory_efficient_attention as fused

    b, length, width = qkv.shape
    q, k, v = paddle.unbind(qkv.reshape([b, length, 3, num_heads, -1]), axis=2)
    # dropout 0; training=True keeps the log-sum-exp that the backward pass needs
    out = fused(q, k, v, attn_bias=None, p=0.0, scale=None, training=True)
    return out.reshape([b, length, width // 3])


def require_memory_efficient_attention() -> None:
    """EnvironmentFault unless the fused attention kernel exists here and runs, backward too."""
    fault = _memory_efficient_fault()
    if fault:
        raise EnvironmentFault(
            f"memory-efficient attention cannot run here: {fault}",
            remedy='use attention="math", which computes the same on any device',
        )


@lru_cache(maxsize=1)
def _memory_efficient_fault() -> str | None:
    if not paddle.is_compiled_with_cuda():
        return "this paddle is a CPU build, and the kernel is for GPUs only"
    if not paddle.device.get_device().startswith("gpu"):
        return f"the device is {paddle.device.get_device()}, and the kernel is for GPUs only"
    try:
        probe = paddle.ones([1, 8, 3 * 64], dtype="float16")
        probe.stop_gradient = False
        with paddle.amp.auto_cast(enable=False):
            memory_efficient_attention(probe, 1).sum().backward()
        paddle.device.synchronize()
    except Exception as error:  # builds without the kernel fail in several ways
        return f"paddle's kernel failed ({str(error).strip().splitlines()[-1]})"
    return None

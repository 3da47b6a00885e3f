"""Attention, head by head, in compiled kernels: a head's scores stay in a core's own cache.

q, k and v are read where the projection wrote them, and results go where the next one reads them:
nothing is split or joined. All arrays are float32. A head's bits depend on nothing but that head.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from models.cpu.blas import product, set_threads
from models.cpu.kernels import F, compiled, exp

MAX_UNSHIFTED = F(40.0)  # exp(+-40), squared and summed, is far within float32's range

_QKV, _HEADS = "float32[:,:,:,:,::1]", "float32[:,:,:,::1]"


@njit(inline="always")
def _longest_squared(rows):
    found = F(0.0)
    for i in range(rows.shape[0]):
        total = F(0.0)
        for j in range(rows.shape[1]):
            total += rows[i, j] * rows[i, j]
        if not total <= found:
            found = total
    return found


@njit(inline="always")
def _at(first):
    return first.ctypes.data


@njit(inline="always")
def _exponentials(qkv, b, h, scale, e, z):
    """e [L, L] = exp(scale q k') up to a factor for each row, z [L] = the rows' sums.

    Softmax does not see a row's factor: rows are divided by exp(their maximum) where they have to
    be. Where the lengths of a head's q and k let no score leave +-40, nothing can overflow or
    vanish, and a pass is saved.
    """
    length, heads, width = qkv.shape[1], qkv.shape[3], qkv.shape[4]
    apart = 3 * heads * width
    q, k = (_at(qkv[b, 0, 0, h]), apart), (_at(qkv[b, 0, 1, h]), apart)
    product(q, k, (_at(e), length), length, length, width, False, True)
    longest = _longest_squared(qkv[b, :, 0, h]) * _longest_squared(qkv[b, :, 1, h])
    bound = scale * np.sqrt(longest)
    for i in range(length):
        shift = F(0.0)
        if not bound <= MAX_UNSHIFTED:
            shift = F(-np.inf)
            for j in range(length):
                shift = max(shift, scale * e[i, j])
        total = F(0.0)
        for j in range(length):
            value = exp(scale * e[i, j] - shift)
            e[i, j] = value
            total += value
        z[i] = total


@compiled(f"void({_QKV}, float32, {_HEADS}, float32[:,::1], float32[::1], int64, int64)", "reassoc")
def forward(qkv, scale, out, e, z, start, stop):
    """out [B, L, H, d] = softmax(scale q k') v of qkv [B, L, 3, H, d], for the (b, h) pairs given.

    The exponentials stay as they are; what is divided by their sums is [L, d], not [L, L].
    e [L, L] and z [L] are for the kernel's own use.
    """
    length, heads, width = qkv.shape[1], qkv.shape[3], qkv.shape[4]
    apart, out_apart = 3 * heads * width, heads * width
    before = set_threads(1)
    for pair in range(start, stop):
        b, h = divmod(pair, heads)
        _exponentials(qkv, b, h, scale, e, z)
        v, found = (_at(qkv[b, 0, 2, h]), apart), (_at(out[b, 0, h]), out_apart)
        product((_at(e), length), v, found, length, width, length, False, False)
        for i in range(length):
            factor = F(1.0) / z[i]
            for j in range(width):
                out[b, i, h, j] *= factor
    set_threads(before)


@compiled(
    f"void({_QKV}, float32, {_HEADS}, {_HEADS}, {_QKV}, float32[:,::1], float32[::1],"
    " float32[:,::1], float32[:,::1], int64, int64)",
    "reassoc",
)
def backward(qkv, scale, out, grad, grad_qkv, e, z, scores, shares, start, stop):
    """grad_qkv from grad [B, L, H, d] and what `forward` had and made, for the pairs given.

    The exponentials are computed again: that takes less time than to write 14 MB a block away and
    to fetch them (Dao et al. 2022). e, scores [L, L], z [L] and shares [L, d] are for the kernel's
    own use.
    """
    length, heads, width = qkv.shape[1], qkv.shape[3], qkv.shape[4]
    apart = 3 * heads * width
    weights, own, share = (_at(e), length), (_at(scores), length), (_at(shares), width)
    shift = np.empty(length, np.float32)
    before = set_threads(1)
    for pair in range(start, stop):
        b, h = divmod(pair, heads)
        _exponentials(qkv, b, h, scale, e, z)
        for i in range(length):
            factor = F(1.0) / z[i]
            total = F(0.0)
            for j in range(width):
                value = grad[b, i, h, j] * factor
                shares[i, j] = value
                total += value * out[b, i, h, j]
            shift[i] = total
        q = (_at(qkv[b, 0, 0, h]), apart)
        k = (_at(qkv[b, 0, 1, h]), apart)
        v = (_at(qkv[b, 0, 2, h]), apart)
        grad_q = (_at(grad_qkv[b, 0, 0, h]), apart)
        grad_k = (_at(grad_qkv[b, 0, 1, h]), apart)
        grad_v = (_at(grad_qkv[b, 0, 2, h]), apart)
        product(weights, share, grad_v, length, width, length, True, False)
        product(share, v, own, length, length, width, False, True)
        for i in range(length):
            for j in range(length):
                scores[i, j] = scale * (scores[i, j] - shift[i]) * e[i, j]
        product(own, k, grad_q, length, width, length, False, False)
        product(own, q, grad_k, length, width, length, True, False)
    set_threads(before)

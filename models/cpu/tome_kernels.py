"""Token merging on a CPU in compiled kernels, without gradients: `models.tome` has the method.

What merging costs has to stay far below what a smaller attention saves, 2.7 ms of 7 in a block of
`small`. So tokens are merged where LayerNorm writes them, and given back where the branch's result
is added to the residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from numba import njit

from models.cpu.blas import product, set_threads
from models.cpu.kernels import F, compiled, moments
from models.cpu.row_threads import array, scratch, shared


@dataclass(frozen=True)
class CpuMerging:
    """How a block's tokens were matched, as `models.tome.Merging` but in rows.

    `attention`, `mlp`: the branches that run on merged tokens.
    `home`: int64 [B * L], row of the merged tensor [B * K, D] that a token goes into and takes its
    result from.
    `members`: int64 [B * L], the tokens' rows in the order of their homes; those of merged row r
    are `members[starts[r] : starts[r + 1]]`.
    """

    attention: bool
    mlp: bool
    home: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    def branch(self, x, norm, layer):
        """x [B, L, D] + unmerge(layer(merge(norm(x)))), of a LayerNorm and any layer."""
        batch, _, width = x.shape
        merged = paddle.empty([batch, (len(self.starts) - 1) // batch, width])
        out = paddle.empty_like(x)
        tokens, rows, outs = (array(t).reshape(-1, width) for t in (x, merged, out))
        weight, bias = array(norm.weight), array(norm.bias)
        shared(lambda start, stop: merged_layer_norm(
            tokens, weight, bias, norm._epsilon, self.members, self.starts[start : stop + 1],
            rows[start:stop]), len(rows))
        done = layer(merged)
        results = array(done).reshape(-1, width)
        shared(lambda start, stop: add_from_home(
            tokens[start:stop], results, self.home[start:stop], outs[start:stop]), len(outs))
        return out


def match(
    x, destinations: np.ndarray, sources: np.ndarray, extras: int, merged: int, *,
    attention: bool, mlp: bool,
) -> CpuMerging:
    """`TokenMerging.match` of x [B, L, D] float32: image tokens begin at `extras`, `merged` go."""
    tokens = array(x)
    batch, length, width = tokens.shape
    home = np.empty((batch, length), np.int64)
    shared(lambda start, stop: find_homes(
        tokens, destinations, sources, extras, merged, home,
        scratch(len(destinations), width), scratch(length - extras, len(destinations)),
        start, stop), batch)
    home = home.reshape(-1)
    members = np.argsort(home, kind="stable")
    starts = np.searchsorted(home[members], np.arange(batch * (length - merged) + 1))
    return CpuMerging(attention, mlp, home, members, starts)


@njit(inline="always")
def inverse_length(row):
    """One over the Euclidean length of a token, float32 [D]."""
    total = F(1e-12)
    for j in range(row.size):
        total += row[j] * row[j]
    return F(1.0) / np.sqrt(total)


@compiled(
    "void(float32[:,:,::1], int64[::1], int64[::1], int64, int64, int64[:,::1], float32[:,::1],"
    " float32[:,::1], int64, int64)",
    "reassoc",
)
def find_homes(
    x, destinations, sources, extras, merged, home, units, scores, first_sample, last_sample
):
    """home [B, L] of x [B, L, D], for the samples first_sample to last_sample.

    A sample's merged tokens are: time and text, the sources that stay, the destinations.
    units [M, D] and scores [N, M] are for the kernel's own use.
    """
    length, width = x.shape[1], x.shape[2]
    number, left = len(sources), len(sources) - merged
    nearest, likeness = np.empty(number, np.int64), np.empty(number, np.float32)
    before = set_threads(1)
    for b in range(first_sample, last_sample):
        for m in range(len(destinations)):
            row = x[b, extras + destinations[m]]
            factor = inverse_length(row)
            for j in range(width):
                units[m, j] = factor * row[j]
        image, unit = (x[b, extras:].ctypes.data, width), (units.ctypes.data, width)
        product(
            image, unit, (scores.ctypes.data, scores.shape[1]), length - extras,
            len(destinations), width, False, True,
        )
        for s in range(number):
            row = scores[sources[s]]
            best = 0
            for m in range(1, len(destinations)):
                if row[m] > row[best]:
                    best = m
            nearest[s] = best
            likeness[s] = row[best] * inverse_length(x[b, extras + sources[s]])
        row_zero = b * (length - merged)
        for i in range(extras):
            home[b, i] = row_zero + i
        for m in range(len(destinations)):
            home[b, extras + destinations[m]] = row_zero + extras + left + m
        for s in range(number):
            rank = 0  # among the sources, the most alike first
            for other in range(number):
                more = likeness[other] > likeness[s]
                rank += more or (likeness[other] == likeness[s] and other < s)
            place = left + nearest[s] if rank < merged else rank - merged
            home[b, extras + sources[s]] = row_zero + extras + place
    set_threads(before)


@compiled(
    "void(float32[:,::1], float32[::1], float32[::1], float32, int64[::1], int64[::1],"
    " float32[:,::1])",
    "reassoc",
)
def merged_layer_norm(x, weight, bias, epsilon, members, starts, out):
    """out [n, D]: row r is the mean of LayerNorm of the rows members[starts[r] : starts[r + 1]]."""
    width = x.shape[1]
    for r in range(out.shape[0]):
        share = F(1.0) / F(starts[r + 1] - starts[r])
        for j in range(width):
            out[r, j] = bias[j]
        for k in range(starts[r], starts[r + 1]):
            row = x[members[k]]
            mean, scale = moments(row, epsilon)
            scale *= share
            for j in range(width):
                out[r, j] += (row[j] - mean) * scale * weight[j]


@compiled("void(float32[:,::1], float32[:,::1], int64[::1], float32[:,::1])")
def add_from_home(x, rows, home, out):
    """out [n, D] = x [n, D] + rows[home [n]]."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] + rows[home[i], j]

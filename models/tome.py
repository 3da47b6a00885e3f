"""Token merging for U-ViT: fewer image tokens in attention and, if asked, in the MLP.

Bipartite soft matching for diffusion (Bolya and Hoffman 2023, "Token Merging for Fast Stable
Diffusion", arXiv:2303.17604): of every 2x2 image tokens one is a destination and the others are
sources; each source finds its most alike destination (cosine), and the `ratio * N` most alike
sources are averaged into theirs. The branch runs on what is left, and every source is given back
its destination's result. The residual stream keeps all of its tokens, so that long skips meet the
tokens that they belong to. The tokens of the timestep and of the text are never merged.

Here in paddle's operations, for any device, dtype and with gradients; `models.cpu.tome_kernels` has
it for sampling in float32 on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from models import ops
from models.cpu import blas
from models.cpu.row_threads import tuned

if blas.AVAILABLE:
    from models.cpu import tome_kernels

STRIDE = 2
# Blocks that share a matching: tokens change little from one block to the next, and finding the
# matches takes from what merging saves.
EVERY = 2
# One token of each 2x2 has to stay.
RATIO_LIMIT = 1 - 1 / STRIDE**2


@dataclass(frozen=True)
class Merging:
    """How a block's tokens were matched; merges and unmerges [B, L, D] tensors.

    `attention`, `mlp`: the branches that run on merged tokens.
    `home`: int64 [B, L], which of the K merged tokens a token goes into and takes its result from.
    `members`: [B, L, K], 1 where a token goes into a merged one, 0 elsewhere.
    """

    attention: bool
    mlp: bool
    home: paddle.Tensor
    members: paddle.Tensor

    def branch(self, x: paddle.Tensor, norm, layer) -> paddle.Tensor:
        """x [B, L, D] + unmerge(layer(merge(norm(x)))), of a LayerNorm and any layer."""
        x, normed = ops.branch(x, norm)
        return x + ops.cast(self.unmerge(layer(self.merge(normed))), x.dtype)

    def merge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, L, D] -> [B, K, D]: time and text, unmerged sources, destinations."""
        # A product adds up in the same order every time; a scatter on a GPU does not.
        members = ops.cast(self.members, x.dtype)
        return paddle.matmul(members, x, transpose_x=True) / members.sum(axis=1).unsqueeze(-1)

    def unmerge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, K, D] -> [B, L, D], every token in its own place again."""
        batch, merged, width = x.shape
        rows = self.home + paddle.arange(batch).unsqueeze(1) * merged
        return paddle.gather(x.reshape([-1, width]), rows.flatten()).reshape([batch, -1, width])


class TokenMerging:
    """Finds what to merge in one block, or a few that follow each other.

    Args:
        side: image tokens along an edge, N = side * side.
        extras: tokens before the image's (time and text).
        ratio: share of the image tokens that is merged away, in 0..0.75.
        attention, mlp: the branches that run on merged tokens.
        number: the block's number. It chooses which token of each 2x2 is the destination: at
            random, so that no grid shows in the image, but the same ones in every run and step.

    Raises:
        ValueError: a ratio that cannot be.
    """

    def __init__(
        self, side: int, extras: int, ratio: float, *,
        attention: bool = True, mlp: bool = False, number: int = 0,
    ):
        check_ratio(ratio)
        self.extras, self.attention, self.mlp = extras, attention, mlp
        destinations = _destinations(side, number)
        sources = np.setdiff1d(np.arange(side * side), destinations)
        self.destinations, self.sources = destinations, sources
        self.merged = min(int(ratio * side * side), len(sources))

    def match(self, x: paddle.Tensor):
        """Match the tokens of a block's input [B, L, D].

        Returns a `Merging`, or a `tome_cpu.CpuMerging` where that serves.
        """
        if tuned(x) and blas.AVAILABLE and not paddle.is_grad_enabled():
            return tome_kernels.match(
                x, self.destinations, self.sources, self.extras, self.merged,
                attention=self.attention, mlp=self.mlp,
            )
        with paddle.no_grad():
            return self._match(x)

    def _match(self, x: paddle.Tensor) -> Merging:
        image = F.normalize(x[:, self.extras :].astype("float32"), axis=-1)
        sources, destinations = map(paddle.to_tensor, (self.sources, self.destinations))
        scores = paddle.matmul(
            paddle.index_select(image, sources, axis=1),
            paddle.index_select(image, destinations, axis=1), transpose_y=True,
        )
        rank = scores.max(axis=-1).argsort(axis=-1, descending=True).argsort(axis=-1)
        batch, left = x.shape[0], len(self.sources) - self.merged
        # Merged tokens are: time and text, the sources that stay, the destinations.
        homes = paddle.concat([
            paddle.arange(self.extras).expand([batch, self.extras]) - self.extras,
            paddle.where(rank < self.merged, left + scores.argmax(axis=-1), rank - self.merged),
            left + paddle.arange(len(self.destinations)).expand([batch, len(self.destinations)]),
        ], axis=1) + self.extras
        tokens = np.concatenate([
            np.arange(self.extras), self.extras + self.sources, self.extras + self.destinations
        ])
        home = paddle.index_select(homes, paddle.to_tensor(np.argsort(tokens)), axis=1)
        members = F.one_hot(home, x.shape[1] - self.merged)
        return Merging(self.attention, self.mlp, home, members)


def check_ratio(ratio: float) -> None:
    """ValueError unless 0 <= ratio <= 0.75 (one token of each 2x2 has to stay)."""
    if not 0.0 <= ratio <= RATIO_LIMIT:
        raise ValueError(f"a token merging ratio lies in 0..{RATIO_LIMIT}, not {ratio}")


def _destinations(side: int, number: int) -> np.ndarray:
    """One image token of each whole 2x2 cell, int64 ascending; the same for the same block."""
    cells = side // STRIDE
    random = np.random.Generator(np.random.Philox(key=[number, 0x70E3]))
    inside = random.integers(0, STRIDE, (2, cells, cells))
    rows = np.arange(cells)[:, None] * STRIDE + inside[0]
    columns = np.arange(cells)[None, :] * STRIDE + inside[1]
    return np.sort((rows * side + columns).reshape(-1)).astype(np.int64)

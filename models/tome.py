"""Token merging for U-ViT: fewer image tokens in attention and, if asked, in the MLP.

Bipartite soft matching for diffusion (Bolya and Hoffman 2023, "Token Merging for Fast Stable
Diffusion", arXiv:2303.17604): of every 2x2 image tokens one is a destination and the others are
sources; each source finds its most alike destination (cosine), and the `ratio * N` most alike
sources are averaged into theirs. The branch runs on what is left, and every source is given back
its destination's result. The residual stream keeps all of its tokens, so that long skips meet the
tokens that they belong to. The tokens of the timestep and of the text are never merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

STRIDE = 2
# Blocks that share a matching: tokens change little from one block to the next, and finding the
# matches costs a quarter of what merging saves in an attention.
EVERY = 2
# One token of each 2x2 has to stay.
RATIO_LIMIT = 1 - 1 / STRIDE**2


@dataclass(frozen=True)
class Merging:
    """How a block's tokens were matched; merges and unmerges [B, L, D] tensors.

    `attention`, `mlp`: the branches that run on merged tokens.
    `kept`: int64 [B * (extras + K)], rows (of all B * L) that go through as they are.
    `members`: [B, N, M] 1 where an image token goes into a destination's mean; `shares`
    [B, M, 1]: one over how many do.
    `home`: int64 [B * L], row of the merged tensor that each token takes its result from.
    """

    extras: int
    attention: bool
    mlp: bool
    kept: paddle.Tensor
    members: paddle.Tensor
    shares: paddle.Tensor
    home: paddle.Tensor

    def merge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, L, D] -> [B, L - r, D]: time and text, unmerged sources, destinations."""
        batch, _, width = x.shape
        kept = paddle.gather(x.reshape([-1, width]), self.kept).reshape([batch, -1, width])
        members, shares = (
            t if t.dtype == x.dtype else t.astype(x.dtype) for t in (self.members, self.shares)
        )
        means = paddle.matmul(members, x[:, self.extras :], transpose_x=True) * shares
        return paddle.concat([kept, means], axis=1)

    def unmerge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, L - r, D] -> [B, L, D], every token in its own place again."""
        batch, _, width = x.shape
        return paddle.gather(x.reshape([-1, width]), self.home).reshape([batch, -1, width])


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
        self._destinations = paddle.to_tensor(destinations)
        self._sources = paddle.to_tensor(sources)
        # where each image token stands among (sources, destinations)
        self._place = paddle.to_tensor(np.argsort(np.concatenate([sources, destinations])))
        self.merged = min(int(ratio * side * side), len(sources))
        self._constants: dict[int, tuple[paddle.Tensor, ...]] = {}

    @paddle.no_grad()
    def match(self, x: paddle.Tensor) -> Merging:
        """Match the tokens of a block's input [B, L, D]."""
        sources = paddle.index_select(x, self._sources + self.extras, axis=1)
        destinations = paddle.index_select(x, self._destinations + self.extras, axis=1)
        if x.dtype != paddle.float32:
            sources, destinations = sources.astype("float32"), destinations.astype("float32")
        # The cosine's lengths are divided out of the small product, not of the tokens: what this
        # costs has to be less than what it saves (F.normalize alone costs half an attention).
        scores = paddle.matmul(sources, destinations, transpose_y=True)
        scores = scores * _inverse_length(destinations).transpose([0, 2, 1])
        likeness = scores.max(axis=-1) * _inverse_length(sources).squeeze(-1)
        return self._merging(scores.argmax(axis=-1), likeness, x.shape[1])

    def _merging(self, nearest, likeness, length: int) -> Merging:
        """`nearest` int64 [B, S]: each source's destination; `likeness` [B, S]; `length` L."""
        batch, count = nearest.shape[0], len(self._destinations)
        own, none, first, own_home, rows, rows_after = self._constant(batch, length)
        order = likeness.argsort(axis=-1, descending=True)
        rank = order.argsort(axis=-1)  # of each source, the most alike first
        goes = rank < self.merged

        target = paddle.concat([paddle.where(goes, nearest, none), own], axis=1)
        target = paddle.index_select(target, self._place, axis=1)
        alone = paddle.gather(self._sources, order[:, self.merged :].flatten()) + self.extras
        kept = paddle.concat([first, alone.reshape([batch, -1])], axis=1) + rows
        left = len(self._sources) - self.merged
        home = paddle.where(goes, nearest + left, rank - self.merged)
        home = paddle.index_select(paddle.concat([home, own_home], axis=1), self._place, axis=1)
        home = paddle.concat([first, home + self.extras], axis=1) + rows_after
        members = F.one_hot(target, count + 1)[:, :, :count]
        shares = 1.0 / members.sum(axis=1).unsqueeze(-1)
        return Merging(
            self.extras, self.attention, self.mlp, kept.flatten(), members, shares, home.flatten()
        )

    def _constant(self, batch: int, length: int) -> tuple[paddle.Tensor, ...]:
        """What does not depend on the tokens; made once for a batch size."""
        if batch not in self._constants:
            count, sources = len(self._destinations), len(self._sources)
            own = paddle.arange(count).expand([batch, count])
            rows = paddle.arange(batch).unsqueeze(1)
            self._constants = {batch: (
                own,
                paddle.full([batch, sources], count, dtype="int64"),
                paddle.arange(self.extras).expand([batch, self.extras]),
                own + (sources - self.merged),
                rows * length,
                rows * (length - self.merged),
            )}
        return self._constants[batch]


def _inverse_length(tokens: paddle.Tensor) -> paddle.Tensor:
    """[B, L, D] -> [B, L, 1]."""
    ones = paddle.ones([tokens.shape[-1], 1])  # paddle's sum is slower than a product with ones
    return paddle.rsqrt(paddle.matmul(tokens * tokens, ones) + 1e-12)


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

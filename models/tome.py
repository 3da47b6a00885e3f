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
# One token of each 2x2 has to stay.
RATIO_LIMIT = 1 - 1 / STRIDE**2


@dataclass(frozen=True)
class Merging:
    """How a block's tokens were matched; merges and unmerges [B, L, D] tensors.

    `kept`: int64 [B * (extras + K)], rows (of all B * L) that go through as they are.
    `shares`: [B, N, M] each image token's weight in each of M destinations' means.
    `home`: int64 [B * L], row of the merged tensor that each token takes its result from.
    """

    extras: int
    kept: paddle.Tensor
    shares: paddle.Tensor
    home: paddle.Tensor

    def merge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, L, D] -> [B, L - r, D]: time and text, unmerged sources, destinations."""
        batch, _, width = x.shape
        kept = paddle.gather(x.reshape([-1, width]), self.kept).reshape([batch, -1, width])
        shares = self.shares if self.shares.dtype == x.dtype else self.shares.astype(x.dtype)
        means = paddle.matmul(shares, x[:, self.extras :], transpose_x=True)
        return paddle.concat([kept, means], axis=1)

    def unmerge(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, L - r, D] -> [B, L, D], every token in its own place again."""
        batch, _, width = x.shape
        return paddle.gather(x.reshape([-1, width]), self.home).reshape([batch, -1, width])


class TokenMerging:
    """Finds what to merge in one block.

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

    @paddle.no_grad()
    def match(self, x: paddle.Tensor) -> Merging:
        """Match the tokens of a block's input [B, L, D]."""
        batch, length, _ = x.shape
        image = x[:, self.extras :].astype("float32")
        # not F.normalize, whose general power costs as much as an attention
        image = image * paddle.rsqrt((image * image).sum(-1, keepdim=True) + 1e-12)
        scores = paddle.matmul(
            paddle.index_select(image, self._sources, axis=1),
            paddle.index_select(image, self._destinations, axis=1),
            transpose_y=True,
        )
        count = len(self._destinations)
        nearest = scores.argmax(axis=-1)
        order = scores.max(axis=-1).argsort(axis=-1, descending=True)
        rank = order.argsort(axis=-1)  # of each source, the most alike first
        goes = rank < self.merged
        left = len(self._sources) - self.merged

        # destination of each image token; `count` for a source that is left alone
        own = paddle.arange(count).expand([batch, count])
        target = paddle.where(goes, nearest, paddle.full_like(nearest, count))
        target = paddle.index_select(paddle.concat([target, own], 1), self._place, axis=1)
        shares = F.one_hot(target, count + 1)[:, :, :count]
        shares = shares / shares.sum(axis=1, keepdim=True)

        first = paddle.arange(self.extras).expand([batch, self.extras])
        alone = self.extras + paddle.gather(self._sources, order[:, self.merged :].flatten())
        kept = paddle.concat([first, alone.reshape([batch, left])], axis=1)
        home = paddle.where(goes, left + nearest, rank - self.merged)
        home = paddle.concat([home, left + own], axis=1)
        home = self.extras + paddle.index_select(home, self._place, axis=1)
        home = paddle.concat([first, home], axis=1)
        rows = paddle.arange(batch).unsqueeze(1)
        return Merging(
            self.extras,
            (kept + rows * length).flatten(),
            shares,
            (home + rows * (length - self.merged)).flatten(),
        )


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

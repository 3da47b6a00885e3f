"""The layers of a U-ViT. Their parameters start at zero: `models.uvit` draws or loads them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import paddle
from paddle import nn

from models import ops

MAX_PERIOD = 10_000


class Attention(nn.Layer):
    """Multi-head self-attention of x [B, L, D], added to `onto` [B, L, D].

    qkv's outputs are laid out (3, H, D/H).
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, kind: str):
        super().__init__()
        self.num_heads = num_heads
        self.kind = kind
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = linear(dim, dim)

    def forward(self, x, onto=None):
        qkv = ops.linear(x, self.qkv.weight, self.qkv.bias)
        if self.kind == "memory_efficient":
            out = ops.memory_efficient_attention(qkv, self.num_heads)
        else:
            out = ops.attention(qkv, self.num_heads)
        return ops.linear(out, self.proj.weight, self.proj.bias, onto)


class Mlp(nn.Layer):
    """Linear, exact GELU, Linear of x [B, L, D], added to `onto` [B, L, D]."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = linear(dim, hidden)
        self.fc2 = linear(hidden, dim)

    def forward(self, x, onto=None):
        x = ops.gelu(ops.linear(x, self.fc1.weight), self.fc1.bias)
        return ops.linear(x, self.fc2.weight, self.fc2.bias, onto)


class Block(nn.Layer):
    """Pre-norm transformer block; with `skip`, it first takes in the long skip of its twin."""

    def __init__(self, dim, num_heads, mlp_ratio, qkv_bias, kind, skip=False):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=1e-5)
        self.attn = Attention(dim, num_heads, qkv_bias, kind)
        self.norm2 = nn.LayerNorm(dim, epsilon=1e-5)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.skip_linear = linear(2 * dim, dim) if skip else None

    def forward(self, x, skip=None, first: int = 0, merging=None):
        """[B, L, D] -> [B, L - first, D]: tokens before `first` are attended to, and not returned.

        `skip` is the long skip, [B, L, D]; `merging` (models.tome) has the branches run on fewer
        tokens.
        """
        if self.skip_linear is not None:
            joined = paddle.concat([x, skip], axis=-1)
            taken = ops.linear(joined, self.skip_linear.weight, self.skip_linear.bias)
            x = ops.cast(taken, x.dtype)
        x = self.attend(x, merging)
        early = merging is None or not merging.mlp  # a merged MLP needs every token in its place
        x = self.feed(ops.without_first(x, first) if early else x, merging)
        return x if early else ops.without_first(x, first)

    def attend(self, x, merging=None):
        """x [B, L, D] with its attention branch: the one place where tokens see each other.

        With `merging` they attend over fewer tokens.
        """
        if merging is not None and merging.attention:
            return merging.branch(x, self.norm1, self.attn)
        x, normed = ops.branch(x, self.norm1)
        return self.attn(normed, x)

    def feed(self, x, merging=None):
        """x [B, L, D] with its MLP branch, token by token; `merging` as in `attend`."""
        if merging is not None and merging.mlp:
            return merging.branch(x, self.norm2, self.mlp)
        x, normed = ops.branch(x, self.norm2)
        return self.mlp(normed, x)


class PatchEmbed(nn.Layer):
    """A strided convolution: latents [B, C, H, W] -> a token a patch [B, (H/p)(W/p), D]."""

    def __init__(self, in_channels: int, dim: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2D(
            in_channels, dim, patch_size, stride=patch_size,
            weight_attr=zeros(), bias_attr=zeros(),
        )

    def forward(self, x):
        # A matrix product gives the tokens in their final layout; paddle's convolution on a CPU
        # is slow and would leave a transpose to do.
        b, c, h, w = x.shape
        p = self.patch_size
        x = x.reshape([b, c, h // p, p, w // p, p]).transpose([0, 2, 4, 1, 3, 5])
        x = x.reshape([b, (h // p) * (w // p), c * p * p])
        weight = self.proj.weight.reshape([-1, c * p * p])
        return ops.linear(x, weight.transpose([1, 0]), self.proj.bias)


def zeros():
    # Weights come from numpy (init_weights): paddle's generator is not asked for them.
    return paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))


def linear(fan_in: int, fan_out: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, weight_attr=zeros(), bias_attr=zeros() if bias else False)


def timestep_embedding(timesteps, batch: int, dim: int) -> paddle.Tensor:
    """Sinusoidal embedding, float32 [batch, dim]: cosines, then sines, then a zero if dim is odd.

    `timesteps` is a number or a tensor of shape [], [1] or [batch]. Always computed in float32:
    half precision cannot tell 999 from 1000 times the higher frequencies.
    """
    with paddle.amp.auto_cast(enable=False):
        if not isinstance(timesteps, paddle.Tensor):
            timesteps = paddle.to_tensor(np.asarray(timesteps, dtype=np.float32))
        timesteps = ops.cast(timesteps, paddle.float32).reshape([-1, 1])
        if timesteps.shape[0] not in (1, batch):
            raise ValueError(f"{timesteps.shape[0]} timesteps for a batch of {batch}")
        angles = timesteps.expand([batch, 1]) * paddle.to_tensor(_frequencies(dim // 2))
        parts = [paddle.cos(angles), paddle.sin(angles)]
        if dim % 2:
            parts.append(paddle.zeros([batch, 1]))
        return paddle.concat(parts, axis=-1)


@lru_cache(maxsize=8)
def _frequencies(half: int) -> np.ndarray:
    # The exponents are rounded to float32 as the authors' code rounds them; an error of one unit
    # in the last place here is one of 6e-5 in the angle at n = 1000.
    exponents = np.float32(-math.log(MAX_PERIOD)) * np.arange(half, dtype=np.float32)
    return np.exp((exponents / np.float32(half)).astype(np.float64)).astype(np.float32)

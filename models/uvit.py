"""U-ViT for text to image: a vision transformer with long skips (Bao et al., arXiv:2209.12152).

Tokens are, in this order, one for the timestep, `num_text_tokens` for the text features and one
for each patch of the latents. Parameters carry the names of the authors' code (baofff/U-ViT,
`libs/uvit_t2i.py`), so that `models.weights` has only layouts to change.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from harness.base import kernel_choice
from harness.base.errors import EnvironmentFault
from models import blocks, ops, tome
from models.blocks import timestep_embedding
from models.traced import Traced

# The authors' code draws Linear weights and pos_embed from a normal of this std, cut at +-2,
# which is a hundred standard deviations away: no draw is ever cut.
INIT_STD = 0.02


@dataclass
class UViTOutput:
    """What `UViT.forward` returns: `sample`, the predicted noise [B, C, H, W]."""

    sample: paddle.Tensor


class ModelConfig(dict):
    """The constructor's arguments as keys and attributes (ppdiffusers reads `unet.config.x`)."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class UViT(nn.Layer):
    """U-ViT t2i. The constructor's arguments are the config's section `model`.

    A new model holds the weights of `init_weights` for a fixed generator; call that again, or load
    weights. `recompute` trades time for memory and leaves the bits of losses and gradients as they
    are. `attention` is "math" or "memory_efficient" (raises EnvironmentFault where paddle or the
    device has it not). Where `harness.base.kernel_choice` says static, it is traced: with "math"
    and without recompute only (else EnvironmentFault).
    """

    def __init__(
        self,
        sample_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        num_layers: int = 12,
        num_attention_heads: int = 8,
        attention_head_dim: int = 64,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        clip_dim: int = 768,
        num_text_tokens: int = 77,
        conv: bool = True,
        recompute: bool = False,
        attention: str = "math",
    ):
        super().__init__()
        self.config = ModelConfig(
            sample_size=sample_size, patch_size=patch_size, in_channels=in_channels,
            num_layers=num_layers, num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias,
            clip_dim=clip_dim, num_text_tokens=num_text_tokens, conv=conv,
        )
        if num_layers < 2:
            raise ValueError(f"num_layers {num_layers}: a U-ViT has two or more")
        if sample_size % patch_size:
            raise ValueError(f"sample_size {sample_size} is not a multiple of patch {patch_size}")
        self.recompute = recompute
        dim = num_attention_heads * attention_head_dim
        self.embed_dim, self.patch_size = dim, patch_size
        self.in_channels, self.sample_size = in_channels, sample_size
        self.extras = 1 + num_text_tokens

        def block(skip=False):
            return blocks.Block(dim, num_attention_heads, mlp_ratio, qkv_bias, attention, skip)

        self.patch_embed = blocks.PatchEmbed(in_channels, dim, patch_size)
        self.context_embed = blocks.linear(clip_dim, dim)
        tokens = self.extras + (sample_size // patch_size) ** 2
        self.pos_embed = self.create_parameter([1, tokens, dim], attr=blocks.zeros())
        self.in_blocks = nn.LayerList([block() for _ in range(num_layers // 2)])
        self.mid_block = block()
        self.out_blocks = nn.LayerList([block(skip=True) for _ in range(num_layers // 2)])
        self.norm = nn.LayerNorm(dim, epsilon=1e-5)
        self.decoder_pred = blocks.linear(dim, patch_size**2 * in_channels)
        self.final_layer = (
            nn.Conv2D(in_channels, in_channels, 3, padding=1,
                      weight_attr=blocks.zeros(), bias_attr=blocks.zeros())
            if conv
            else None
        )
        self.tome: list[tome.TokenMerging] | None = None
        self._traced: Traced | None = None
        self.set_attention(attention)
        self.init_weights(np.random.Generator(np.random.Philox(key=0)))

    @property
    def dtype(self):
        """The parameters' dtype, which is also that of the residual stream and of the output."""
        return self.pos_embed.dtype

    def set_attention(self, kind: str) -> None:
        """Choose "math" or "memory_efficient" attention; EnvironmentFault where it cannot run."""
        if kind not in ("math", "memory_efficient"):
            raise ValueError(f'attention is "math" or "memory_efficient", not {kind!r}')
        if kind == "memory_efficient":
            ops.require_memory_efficient_attention()
        for layer in self.sublayers():
            if isinstance(layer, blocks.Attention):
                layer.kind = kind
        self._trace()

    def _trace(self) -> None:
        """Trace anew from the next call on, if at all: a graph keeps what it was traced with."""
        if not kernel_choice.static():
            return
        kinds = {layer.kind for layer in self.sublayers() if isinstance(layer, blocks.Attention)}
        if self.recompute or kinds != {"math"}:
            what = "train.recompute = true" if self.recompute else 'attention "memory_efficient"'
            raise EnvironmentFault(
                f"static execution is not for {what}", remedy="use --execution eager"
            )
        self._traced = Traced(self._predict)

    def apply_tome(self, ratio: float = 0.5, merge_attn: bool = True, merge_mlp: bool = False):
        """Merge `ratio` of the image tokens in every block's branches from now on; returns self.

        ratio 0 (or neither branch) leaves the model's bits as they are. ValueError for a ratio
        outside of 0..0.75. See models.tome.
        """
        tome.check_ratio(ratio)
        side = self.sample_size // self.patch_size
        merges = ratio * side * side >= 1 and (merge_attn or merge_mlp)
        self.tome = [
            tome.TokenMerging(
                side, self.extras, ratio, attention=merge_attn, mlp=merge_mlp, number=number
            )
            for number in range(0, self.config.num_layers + 1, tome.EVERY)
        ] if merges else None
        self._trace()
        return self

    def _merging(self, number, x, last):
        """How block `number`, whose input is `x`, merges tokens: as the `last` one or anew."""
        if self.tome is None or number % tome.EVERY:
            return last
        return self.tome[number // tome.EVERY].match(x)

    def remove_tome(self):
        """Undo `apply_tome`; returns self."""
        return self.apply_tome(0.0)

    def init_weights(self, generator: np.random.Generator) -> None:
        """Draw every weight anew, as the authors' code does, in distribution.

        Linear weights and pos_embed: normal, std 0.02. Convolutions: PyTorch's default, uniform
        within 1/sqrt(fan in). LayerNorm weights one, all other biases zero. One draw from
        `generator` keys a stream for each parameter's name, so that the order of construction
        does not matter.
        """
        root = generator.bytes(16)
        for name, parameter in self.named_parameters():
            digest = hashlib.sha256(root + name.encode()).digest()
            key = np.frombuffer(digest[:16], dtype=np.uint64)
            stream = np.random.Generator(np.random.Philox(key=key))
            parameter.set_value(_initial_value(self, name, parameter.shape, stream))

    def forward(
        self, x, timesteps, encoder_hidden_states=None, return_dict=True, context=None
    ):
        """Predict the noise in `x`.

        Args:
            x: noisy latents [B, C, H, W], C, H and W as configured.
            timesteps: the step n in 1..N that the noise level belongs to, one for all or one for
                each sample: a number, or a tensor of shape [], [1] or [B], int or float.
            encoder_hidden_states: text features [B, T, clip_dim]; `context` is the same by
                another name.
            return_dict: False returns a tuple of the tensor instead of a `UViTOutput`.

        Raises:
            ValueError: an input's shape does not fit the configuration.
        """
        context = encoder_hidden_states if context is None else context
        self._check_shapes(x, context)
        x, context = ops.cast(x, self.dtype), ops.cast(context, self.dtype)
        time = timestep_embedding(timesteps, x.shape[0], self.embed_dim)
        x = (self._traced or self._predict)(x, time, context)
        return UViTOutput(sample=x) if return_dict else (x,)

    @paddle.jit.not_to_static  # traced as it runs: nothing in it depends on a tensor's values
    def _predict(self, x, time, context):
        """`forward` of tensors alone, which is what can be traced; `time` is [B, D]."""
        text_tokens = ops.linear(context, self.context_embed.weight, self.context_embed.bias)
        tokens = (time.unsqueeze(1), text_tokens, self.patch_embed(x))
        x = paddle.concat([ops.cast(t, self.dtype) for t in tokens], axis=1) + self.pos_embed

        skips, merging = [], None
        for number, block in enumerate([*self.in_blocks, self.mid_block]):
            merging = self._merging(number, x, merging)
            x = self._run(block, x, None, 0, merging)
            skips.append(x)
        skips.pop()  # the middle block's output is no long skip
        for number, block in enumerate(self.out_blocks, start=len(skips) + 1):
            merging = self._merging(number, x, merging)
            # Only the image tokens are decoded: the last block need not finish the others.
            first = self.extras if len(skips) == 1 else 0
            x = self._run(block, x, skips.pop(), first, merging)

        x = ops.layer_norm(x, self.norm)
        x = ops.linear(x, self.decoder_pred.weight, self.decoder_pred.bias)
        x = self._unpatchify(ops.cast(x, self.dtype))
        if self.final_layer is not None:
            x = ops.cast(self.final_layer(x), self.dtype)
        return x

    def _run(self, block, *inputs):
        if self.recompute and self.training and paddle.is_grad_enabled():
            from paddle.distributed.fleet.utils import recompute

            # Nothing in a block is random, so no generator's state needs to be kept.
            return recompute(block, *inputs, preserve_rng_state=False)
        return block(*inputs)

    def _unpatchify(self, x):
        """[B, (H/p)(W/p), p*p*C], the channel changing fastest, -> [B, C, H, W]."""
        p, side = self.patch_size, self.sample_size // self.patch_size
        x = x.reshape([-1, side, side, p, p, self.in_channels]).transpose([0, 5, 1, 3, 2, 4])
        return x.reshape([-1, self.in_channels, self.sample_size, self.sample_size])

    def _check_shapes(self, x, context):
        size = self.sample_size
        if list(x.shape[1:]) != [self.in_channels, size, size]:
            raise ValueError(
                f"latents of shape {list(x.shape)}, not [B, {self.in_channels}, {size}, {size}]"
            )
        want = [x.shape[0], self.extras - 1, self.config.clip_dim]
        if context is None or list(context.shape) != want:
            found = "none" if context is None else f"shape {list(context.shape)}"
            raise ValueError(f"text features (encoder_hidden_states): {found}, not {want}")


def _initial_value(
    model: nn.Layer, name: str, shape: Sequence[int], stream: np.random.Generator
) -> np.ndarray:
    layer_name, _, leaf = name.rpartition(".")
    layer = model
    for part in filter(None, layer_name.split(".")):
        layer = getattr(layer, part)
    if isinstance(layer, nn.Conv2D):
        limit = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
        return stream.uniform(-limit, limit, shape).astype(np.float32)
    if isinstance(layer, nn.LayerNorm):
        return np.full(shape, leaf == "weight", dtype=np.float32)
    if leaf == "bias":
        return np.zeros(shape, dtype=np.float32)
    return stream.standard_normal(shape, dtype=np.float32) * np.float32(INIT_STD)

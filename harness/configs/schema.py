"""What a config may say, checked strictly: unknown keys, wrong types, impossible sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, lt=1e9)]


class Section(BaseModel):
    """Strict: no unknown key, no silent conversion, no change after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Section):
    """U-ViT's sizes, named as in PaddleMIX's model JSON."""

    sample_size: PositiveInt = 32
    patch_size: PositiveInt = 2
    in_channels: PositiveInt = 4
    num_layers: PositiveInt
    num_attention_heads: PositiveInt
    attention_head_dim: PositiveInt
    mlp_ratio: Positive = 4.0
    qkv_bias: bool = False
    clip_dim: PositiveInt = 768
    num_text_tokens: PositiveInt = 77
    conv: bool = True

    @model_validator(mode="after")
    def _possible(self) -> Model:
        if self.sample_size % self.patch_size:
            raise ValueError(
                f"sample_size {self.sample_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.num_layers % 2:
            raise ValueError(
                f"num_layers {self.num_layers} is odd: half the blocks go down and half up, "
                "the middle block is counted apart"
            )
        width = self.num_attention_heads * self.attention_head_dim
        if width % 2:
            raise ValueError(f"width {width} (heads x head dim) is odd: half of a timestep's "
                             "embedding is sines, half cosines")
        for what, value, most in (
            ("width (heads x head dim)", width, 16_384),
            ("num_layers", self.num_layers, 1_024),
            ("image tokens", (self.sample_size // self.patch_size) ** 2, 65_536),
            ("in_channels", self.in_channels, 1_024),
            ("clip_dim", self.clip_dim, 65_536),
            ("num_text_tokens", self.num_text_tokens, 65_536),
            ("mlp_ratio", self.mlp_ratio, 64),
        ):
            if value > most:
                raise ValueError(
                    f"{what} {value} is more than {most:,}: no such model fits a device"
                )
        return self


class Diffusion(Section):
    """The forward process: scaled-linear betas, and the scale of the latents."""

    num_train_timesteps: Annotated[int, Field(gt=0, le=100_000)] = 1000
    beta_start: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.00085
    beta_end: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.012
    latent_scale: Positive = 0.23010

    @model_validator(mode="after")
    def _rising(self) -> Diffusion:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start {self.beta_start} is above beta_end {self.beta_end}")
        return self


class Data(Section):
    """The training set; its directory is given on the command line (`--data`)."""

    dataset: Literal["coco256_features", "digits"] = "coco256_features"
    condition_drop_prob: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    num_workers: Annotated[int, Field(ge=0, le=256)] = 4


class Optim(Section):
    """AdamW and its schedule."""

    lr: Positive = 2e-4
    beta1: Fraction = 0.9
    beta2: Fraction = 0.9
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0, lt=1e3)] = 0.03
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Count = 5000
    max_grad_norm: Annotated[float, Field(ge=-1.0, lt=1e9)] = -1.0

    @model_validator(mode="after")
    def _clipping(self) -> Optim:
        if -1.0 < self.max_grad_norm <= 0.0:
            raise ValueError(
                f"max_grad_norm {self.max_grad_norm} would leave no gradient; -1 turns clipping off"
            )
        return self


class Train(Section):
    """Batch, length, what is written when, and how it is computed."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1234
    max_steps: PositiveInt = 1_000_000
    global_batch_size: Annotated[int, Field(gt=0, le=2**20)] = 256
    micro_batch_size: PositiveInt = 32
    log_steps: PositiveInt = 50
    save_steps: PositiveInt = 5000
    keep_checkpoints: PositiveInt = 3
    image_steps: Count = 5000
    eval_steps: Count = 50_000
    eval_at_start: bool = False
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    amp_level: Literal["O1", "O2"] = "O1"
    recompute: bool = False
    attention: Literal["math", "memory_efficient"] = "math"
    reduction: Literal["fast", "fixed-order"] = "fast"
    shards: Annotated[int, Field(gt=0, le=1024)] = 8
    shard_optimizer: bool = False
    determinism: Literal["on", "off"] = "on"


class Ema(Section):
    """The moving average of the weights, from the first step, without warm-up."""

    decay: Fraction = 0.9999


class Eval(Section):
    """How samples are drawn and judged (see eval.protocols)."""

    protocol: Annotated[str, Field(min_length=1, max_length=64)] = "coco-ddim50"
    train_protocol: Annotated[str, Field(min_length=1, max_length=64)] = "coco-ddim50-10k"
    batch_size: PositiveInt = 50
    decode_batch_size: PositiveInt = 10


class Config(Section):
    """One pinned training configuration."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: Annotated[str, Field(max_length=1000)] = ""
    model: Model
    diffusion: Diffusion = Diffusion()
    data: Data = Data()
    optim: Optim = Optim()
    train: Train = Train()
    ema: Ema = Ema()
    eval: Eval = Eval()

    @model_validator(mode="after")
    def _shardable(self) -> Config:
        train = self.train
        if train.reduction == "fixed-order" and train.global_batch_size % train.shards:
            raise ValueError(
                f"train.global_batch_size {train.global_batch_size} is not a multiple of "
                f"train.shards {train.shards}, which reduction = \"fixed-order\" needs"
            )
        return self

    @model_validator(mode="after")
    def _divisible(self) -> Config:
        whole, micro = self.train.global_batch_size, self.train.micro_batch_size
        if micro < whole and whole % micro:
            possible = [n for n in range(1, min(whole, 4096) + 1) if whole % n == 0]
            raise ValueError(
                f"train.global_batch_size {whole} is not a multiple of train.micro_batch_size "
                f"{micro}; possible: {', '.join(map(str, possible[:24]))}"
            )
        return self

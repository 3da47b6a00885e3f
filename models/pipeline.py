"""U-ViT as the `unet` of ppdiffusers' pipelines; model_index.json names this class.

`LDMTextToImagePipeline.from_pretrained` imports this module, looks for a base class by the name of
`ModelMixin` in it, and loads `UViTModel` by that class's method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
from ppdiffusers import ModelMixin

from harness.base.errors import DataError, EnvironmentFault
from models import weights
from models.pretrained import model_folder, write_pipeline_folder
from models.uvit import UViT

_SECTION = (
    "sample_size", "patch_size", "in_channels", "num_layers", "num_attention_heads",
    "attention_head_dim", "clip_dim", "num_text_tokens",
)
_LIMITS = {"sample_size": 4096, "num_layers": 1024, "num_attention_heads": 1024,
           "num_text_tokens": 65_536, "clip_dim": 65_536}


class UViTModel(UViT, ModelMixin):
    """`UViT` that counts timesteps from 0, as ppdiffusers' schedulers do."""

    def forward(self, x, timesteps, encoder_hidden_states=None, return_dict=True, context=None):
        """As `UViT.forward`, but `timesteps` are a scheduler's t in 0..N-1: n is t + 1."""
        return super().forward(x, timesteps + 1, encoder_hidden_states, return_dict, context)

    @classmethod
    def from_pretrained(cls, folder: str | Path, paddle_dtype: Any = None, **_: Any) -> UViTModel:
        """Read unet/. DataError if a file is broken, hostile, or does not fit the others.

        EnvironmentFault if float16 is asked for on a CPU.
        """
        half = str(paddle_dtype).rpartition(".")[2] in ("float16", "fp16")
        if half and paddle.get_device() == "cpu":
            raise EnvironmentFault(
                "paddle has no float16 kernels for the CPU",
                remedy="leave paddle_dtype out, or use a GPU",
            )
        model, _ = read_unet(Path(folder), cls)
        return model if paddle_dtype is None else model.to(dtype=paddle_dtype)

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write unet/ anew, as `harness export --format ldm` does."""
        arrays = {name: p.astype("float32").numpy() for name, p in self.named_parameters()}
        write_pipeline_folder.write_unet(
            Path(save_directory), arrays, self.config, type(self).__name__)

    def set_use_memory_efficient_attention_xformers(
        self, valid: bool, attention_op: str | None = None
    ) -> None:
        """What a pipeline's `enable_xformers_memory_efficient_attention` calls.

        NotImplementedError, as ppdiffusers raises it, where the kernel cannot run.
        """
        try:
            self.set_attention("memory_efficient" if valid else "math")
        except EnvironmentFault as fault:
            raise NotImplementedError(str(fault)) from fault

    @property
    def _tome_info(self) -> dict[str, Any]:
        """Where ppdiffusers' `pipe.apply_tome` leaves what it was asked for, and undoes it.

        It knows nothing of U-ViT's blocks; the model acts on what is set here.
        """
        return {"hooks": [_Merged(self)] if self.tome is not None else []}

    @_tome_info.setter
    def _tome_info(self, info: dict[str, Any]) -> None:
        asked = info["args"]
        self.apply_tome(asked["ratio"], asked["merge_attn"], asked["merge_mlp"])


class _Merged:
    """Stands for the forward hook that ppdiffusers' `remove_tome` wants to remove."""

    def __init__(self, model: UViT):
        self._model = model

    def remove(self) -> None:
        self._model.remove_tome()


def read_unet(folder: Path, kind: type[UViT] = UViT) -> tuple[UViT, dict[str, Any]]:
    """(a model of class `kind`, its section `model`) from a unet/ folder, ours or ppdiffusers'.

    EnvironmentFault if there is none, DataError if a file is broken, hostile, or does not fit.
    """
    section = read_section(model_folder.require(folder, "U-ViT"))
    arrays = model_folder.read_weights(folder)
    _require_sizes(section, arrays, folder)
    try:
        model = kind(**section)
    except ValueError as error:
        raise DataError(f"{folder / 'config.json'} describes no U-ViT: {error}") from error
    weights.load_own(model, arrays, str(folder))
    model.eval()
    return model, section


def _require_sizes(section: dict[str, Any], arrays: dict[str, Any], folder: Path) -> None:
    """DataError if the weights are of other sizes: a config that claims more costs no memory."""
    width = section["num_attention_heads"] * section["attention_head_dim"]
    side = section["sample_size"] // section["patch_size"]
    half = section["num_layers"] // 2
    for name, shape in (
        ("pos_embed", (1, 1 + section["num_text_tokens"] + side * side, width)),
        ("context_embed.weight", (section["clip_dim"], width)),
        ("mid_block.mlp.fc1.bias", (int(width * section["mlp_ratio"]),)),
        ("decoder_pred.bias", (section["patch_size"] ** 2 * section["in_channels"],)),
        (f"out_blocks.{half - 1}.skip_linear.bias", (width,)),
    ):
        if name not in arrays or arrays[name].shape != shape:
            raise DataError(
                f"{folder}: the weights do not fit config.json: {name} is "
                f"{list(arrays[name].shape) if name in arrays else 'missing'}, not {list(shape)}",
                remedy="get the folder again",
            )


def read_section(folder: Path) -> dict[str, Any]:
    """UViT's arguments out of config.json, each checked: it may ask for anything."""
    config = model_folder.read_config(folder)
    where = folder / "config.json"
    defaults = {"patch_size": 2, "clip_dim": 768, "num_text_tokens": 77}
    section: dict[str, Any] = {}
    for key in _SECTION:
        if key not in config and key not in defaults:
            raise DataError(f"{where} has no {key}: it is not a U-ViT's")
        default = defaults.get(key, 1)
        section[key] = model_folder.integer(config, key, default, _LIMITS.get(key, 2048), folder)
    ratio = section["mlp_ratio"] = config.get("mlp_ratio", 4.0)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        raise DataError(f"{where}: mlp_ratio is not a number")
    if not 0 < ratio <= 64:
        raise DataError(f"{where}: mlp_ratio is not within 0..64")
    for key, default in (("qkv_bias", False), ("conv", True)):
        section[key] = config.get(key, default)
        if not isinstance(section[key], bool):
            raise DataError(f"{where}: {key} is not true or false")
    width = section["num_attention_heads"] * section["attention_head_dim"]
    if width > 16_384 or section["num_layers"] % 2 or width % 2:
        layers = section["num_layers"]
        raise DataError(f"{where} describes no U-ViT: {layers} layers, width {width}")
    return section

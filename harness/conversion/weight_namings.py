"""What `harness import` is given: which kind of weights it is, and how they are named."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError, UsageError
from harness.files.foreign_weights import Tensors, pdparams, pth, safetensors_file

# What a U-ViT's folder in ppdiffusers may hold, most wanted first.
_MODEL_FILES = (
    "diffusion_paddle_model.safetensors", "model_state.pdparams",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
)
# What a file is by its name, where its first bytes say that it is not safetensors.
_BY_NAME = {".pth": "a file of torch.save", ".pt": "a file of torch.save",
            ".bin": "a file of torch.save", ".pdparams": "a file of paddle.save"}
# Parts of PaddleMIX's trainer that are no U-ViT.
_OTHER_PARTS = ("vae.", "vqvae.", "text_encoder.", "alphas_cumprod", "model_ema.decay",
                "model_ema.num_updates", "logvar")


@dataclass
class Source:
    """Weights as they were found; `ema` is None if the source has but one set.

    `config`: the sizes that a ppdiffusers folder states, by the names of our section `model`.
    """

    kind: str
    files: list[Path]
    weights: Tensors
    ema: Tensors | None = None
    config: dict[str, Any] = field(default_factory=dict)


def read(path: Path, parameters: Iterable[str]) -> Source:
    """Read the weights at `path`, a file or a folder; `parameters` are the model's own names.

    UsageError if there is nothing there that is known, DataError if a file is broken.
    """
    if path.is_dir():
        return _folder(path, list(parameters))
    if path.is_file():
        return _file(path, list(parameters))
    raise UsageError(f"{path} does not exist", remedy="give a weights file or a model's folder")


def _folder(path: Path, parameters: list[str]) -> Source:
    if (path / "run.json").is_file():
        raise UsageError(f"{path} is a run already", remedy="use it as it is")
    if (path / "model_index.json").is_file():
        return _folder(path / "unet", parameters)
    if (path / "nnet_ema.pth").is_file() and (path / "nnet.pth").is_file():
        weights, ema = path / "nnet.pth", path / "nnet_ema.pth"
        return Source("official", [weights, ema], _plain(weights), _plain(ema))
    for name in ("nnet_ema.pth", "nnet.pth"):
        if (path / name).is_file():
            return _file(path / name, parameters)
    for name in _MODEL_FILES:
        if (path / name).is_file():
            source = _file(path / name, parameters)
            if (path / "config.json").is_file():
                source.config = _stated(path / "config.json")
                source.kind = "ppdiffusers"
            return source
    raise UsageError(
        f"there are no weights that are known in {path}",
        remedy=f"it should hold nnet.pth, nnet_ema.pth or one of {', '.join(_MODEL_FILES)}",
    )


def _file(path: Path, parameters: list[str]) -> Source:
    found = _plain(path)
    if any(name.startswith("unet.") for name in found.arrays):
        return _trainer(path, found, parameters)
    kind = "official" if found.layout == "torch" else "ppdiffusers"
    return Source(kind, [path], _with_norms(found, parameters))


def _plain(path: Path) -> Tensors:
    """One weights file, its kind told by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(1)
    if zipfile.is_zipfile(path):
        found = pth.read(path)
    elif start == b"\x80":  # the first byte of a pickle since protocol 2
        found = pdparams.read(path)
    else:
        found = _safetensors(path)
    if found.arrays and all(name.startswith("module.") for name in found.arrays):
        # saved from within torch's DataParallel
        found.arrays = {n.removeprefix("module."): a for n, a in found.arrays.items()}
    return found


def _safetensors(path: Path) -> Tensors:
    try:
        return safetensors_file.read(path)
    except DataError as error:
        if path.suffix not in _BY_NAME:
            raise
        raise DataError(
            f"{path} is not {_BY_NAME[path.suffix]}, as its name says", remedy="get the file again"
        ) from error


def _trainer(path: Path, found: Tensors, parameters: list[str]) -> Source:
    """PaddleMIX's trainer: `unet.NAME`, and `model_ema.` with the dots of NAME left out."""
    rest = {n: a for n, a in found.arrays.items() if not n.startswith(_OTHER_PARTS)}
    weights = {n.removeprefix("unet."): rest.pop(n) for n in list(rest) if n.startswith("unet.")}
    dotless = {name.replace(".", ""): name for name in parameters}
    ema = {}
    for name in [n for n in rest if n.startswith("model_ema.")]:
        short = name.removeprefix("model_ema.")
        ema[dotless.get(short, short)] = rest.pop(name)
    weights |= rest  # nobody knows these: the model will refuse them by name
    return Source(
        "paddlemix", [path],
        _with_norms(Tensors(weights, found.layout), parameters),
        _with_norms(Tensors(ema, found.layout), parameters) if ema else None,
    )


def _with_norms(found: Tensors, parameters: list[str]) -> Tensors:
    """PaddleMIX trains without the LayerNorms' weights and biases: those are ones and zeros."""
    norms = [name for name in parameters if _is_norm(name)]
    if found.layout == "torch" or any(name in found.arrays for name in norms):
        return found
    width = found.arrays.get("context_embed.bias")
    if width is None or width.ndim != 1:
        return found
    made: dict[str, np.ndarray] = {
        name: np.full(width.shape, name.endswith("weight"), np.float32) for name in norms
    }
    return Tensors({**found.arrays, **made}, found.layout)


def _is_norm(name: str) -> bool:
    layer = name.split(".")[-2:-1]
    return layer in (["norm"], ["norm1"], ["norm2"])


def _stated(path: Path) -> dict[str, Any]:
    config = files.read_json(path)
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a JSON object")
    return config


def refuse_other_sizes(source: Source, model: Mapping[str, Any]) -> None:
    """DataError if the folder's config.json states other sizes than the section `model`.

    Shapes alone do not tell 8 heads of 64 from 4 of 128.
    """
    differing = [
        f"{key} {json.dumps(source.config[key])[:40]} there, {json.dumps(value)} in the config"
        for key, value in model.items()
        if key in source.config and source.config[key] != value
    ]
    if differing:
        raise DataError(
            f"{source.files[0].parent} is another model: {'; '.join(differing)}",
            remedy="choose the configuration that it was trained with",
        )

"""Read a pretrained model's folder (config.json and weights) that may be hostile or broken.

The folders are those of ppdiffusers and paddlenlp; the weights come as
safetensors, or as a .pdparams, which is a pickle and is read by an unpickler
that admits arrays and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.files import unpickle

if TYPE_CHECKING:
    import numpy as np
    import paddle

WEIGHTS = (
    "diffusion_paddle_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "model_state.safetensors",
    "model_state.pdparams",
)


def require(folder: Path | str, what: str) -> Path:
    """`folder` as a Path, or an EnvironmentFault that says how to name another."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EnvironmentFault(
            f"no {what} at {folder}",
            remedy="put its folder (config.json and weights) there, or name another one",
        )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json as a dict; DataError if there is none or it is not one."""
    config = files.read_json(folder / "config.json", remedy="get the folder again")
    if not isinstance(config, dict):
        raise DataError(f"{folder / 'config.json'} is not a JSON object")
    return config


def integer(config: Mapping[str, Any], key: str, default: int, most: int, folder: Path) -> int:
    """`config[key]`, a whole number from 1 to `most`; DataError names the file and the key."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise DataError(
            f"{folder / 'config.json'}: {key} is {_short(value)}, expected a whole number "
            f"from 1 to {most}"
        )
    return value


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the folder's weights file, in paddle's layout, under their names.

    A safetensors file written by torch keeps Linear weights transposed: turned here.
    """
    for name in WEIGHTS:
        path = folder / name
        if path.is_file():
            return _pdparams(path) if path.suffix == ".pdparams" else _safetensors(path)
    raise EnvironmentFault(
        f"no weights in {folder}", remedy=f"put one of {', '.join(WEIGHTS)} there"
    )


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    from harness.files import tensor_files

    arrays, metadata = tensor_files.read_all(path)
    if metadata.get("format") == "pt":
        arrays = {k: np.ascontiguousarray(_turned(k, v)) for k, v in arrays.items()}
    return arrays


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 and "embedding" not in name else array


def _pdparams(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    with files.reading(path) as file:
        content = unpickle.load(file, path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a state dict")
    arrays = {}
    for name, value in content.items():
        if name == "StructuredToParameterName@@":  # paddle.save adds it
            continue
        if not isinstance(name, str) or not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise DataError(f"{path}: {_short(name)} is not an array")
        arrays[name] = value
    return arrays


def assign(layer: paddle.nn.Layer, arrays: Mapping[str, np.ndarray], source: Path) -> None:
    """Set every parameter of `layer` from `arrays`, as float32.

    Arrays that the layer has no place for are ignored (a CLIP folder holds the
    image half as well). DataError lists what is missing, misshapen or not finite.
    """
    import numpy as np

    state = layer.state_dict()
    missing = sorted(set(state) - set(arrays))
    if missing:
        raise DataError(f"{source} lacks {_listed(missing)}", remedy="get the folder again")
    wrong = [
        f"{name} {list(arrays[name].shape)} (expected {list(value.shape)})"
        for name, value in state.items()
        if list(arrays[name].shape) != list(value.shape) or arrays[name].dtype.kind != "f"
    ]
    if wrong:
        raise DataError(f"{source} does not fit its config.json: {_listed(wrong)}")
    for name, value in state.items():
        array = np.ascontiguousarray(arrays[name], dtype=np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"{source}: {name} has values that are not finite")
        value.set_value(array)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."

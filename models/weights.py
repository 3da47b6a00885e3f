"""U-ViT weights in and out under the names and in the layouts of the authors' PyTorch code.

The names are our own as well; only Linear weights differ, which PyTorch keeps as [out, in] and
paddle as [in, out].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import nn

from harness.base.errors import DataError


def load_official(model: nn.Layer, arrays: Mapping[str, np.ndarray], where: str = "") -> None:
    """Put `arrays` (official name -> numpy array in PyTorch's layout) into `model`.

    Arrays of any floating dtype are converted to the parameter's. Nothing is changed unless all of
    them fit.

    Raises:
        DataError: names missing or unexpected, shapes or dtypes wrong, values not finite; all of
            them are listed in the one message. `where` names the source in it.
    """
    _load(model, arrays, where, _linear_weights(model))


def load_own(model: nn.Layer, arrays: Mapping[str, np.ndarray], where: str = "") -> None:
    """As `load_official`, for `arrays` in the model's own layout, which is paddle's."""
    _load(model, arrays, where, set())


def _load(model, arrays, where, linear) -> None:
    parameters = dict(model.named_parameters())
    faults = [f"missing {name}" for name in parameters if name not in arrays]
    faults += [f"unexpected {name}" for name in arrays if name not in parameters]
    for name in (n for n in parameters if n in arrays):
        fault = _fault(arrays[name], _official_shape(parameters[name], name in linear))
        if fault:
            faults.append(f"{name} {fault}")
    if faults:
        raise DataError(
            f"weights{' in ' * bool(where)}{where} do not fit the model: " + ", ".join(faults),
            remedy="choose the configuration that the weights were trained with",
        )
    for name, parameter in parameters.items():
        value = arrays[name].T if name in linear else arrays[name]
        parameter.set_value(_in_dtype_of(parameter, value))


def to_official(model: nn.Layer) -> dict[str, np.ndarray]:
    """The model's weights as official name -> float32 array in PyTorch's layout (copies)."""
    linear = _linear_weights(model)
    arrays = {}
    for name, parameter in model.named_parameters():
        value = parameter.astype(paddle.float32).numpy()
        arrays[name] = np.ascontiguousarray(value.T if name in linear else value)
    return arrays


def _linear_weights(model) -> set[str]:
    return {
        f"{prefix}.weight"
        for prefix, layer in model.named_sublayers()
        if isinstance(layer, nn.Linear)
    }


def _official_shape(parameter, is_linear: bool) -> list[int]:
    return parameter.shape[::-1] if is_linear else parameter.shape


def _fault(array, shape) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}, not a numpy array"
    if list(array.shape) != list(shape):
        return f"has shape {list(array.shape)}, not {list(shape)}"
    if not np.issubdtype(array.dtype, np.floating):
        return f"has dtype {array.dtype}, which is not floating"
    if not np.isfinite(array).all():
        return "holds values that are not finite"
    return None


def _in_dtype_of(parameter, value):
    value = paddle.to_tensor(np.ascontiguousarray(value, dtype=np.float32))
    return value if value.dtype == parameter.dtype else value.astype(parameter.dtype)

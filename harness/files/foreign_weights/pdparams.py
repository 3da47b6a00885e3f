"""Read a state dict that `paddle.save` wrote (.pdparams), without paddle.

It is a pickle of a dict from names to numpy arrays, or to (parameter name, array) pairs; bfloat16
comes as uint16. `StructuredToParameterName@@` is paddle's own table of names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError
from harness.files import unpickle
from harness.files.foreign_weights import Tensors
from harness.files.tensor_files import from_bfloat16

_TABLE = "StructuredToParameterName@@"
_SPLIT = "UnpackBigParamInfor@@"


def read(path: Path) -> Tensors:
    """The state dict in `path`; DataError if it is broken, hostile, or not a plain state dict."""
    names = {(module, "tuple"): tuple for module in ("builtins", "__builtin__")}
    with files.reading(path) as file:
        content = unpickle.load(file, path, extra=names)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not a state dict")
    if _SPLIT in content:
        raise DataError(
            f"{path} has its large tensors cut in pieces (pickle protocol 2 or 3)",
            remedy="load it with paddle and save it again with protocol=4",
        )
    content.pop(_TABLE, None)
    return Tensors({name: _array(name, v, path) for name, v in content.items()}, "paddle")


def _array(name: Any, value: Any, path: Path) -> np.ndarray:
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if not isinstance(name, str) or not isinstance(value, np.ndarray) or value.dtype.hasobject:
        raise DataError(f"{path}: {str(name)[:80]!r} is not a named array")
    return from_bfloat16(value) if value.dtype == np.uint16 else value

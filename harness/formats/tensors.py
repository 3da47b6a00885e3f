"""Read a safetensors file, bfloat16 included, and tell whose layout it is in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.formats import Tensors, from_bfloat16

_HEADER_LIMIT = 100 << 20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?",
}


def read(path: Path) -> Tensors:
    """The tensors in `path`; DataError if the file is broken.

    Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors end to end.
    ppdiffusers marks its own files with the metadata format "pd"; any other is in torch's layout.
    """
    import numpy as np

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    length = int(data[:8].view("<u8")[0]) if len(data) >= 8 else 0
    if not 2 <= length <= min(_HEADER_LIMIT, len(data) - 8):
        raise DataError(f"{path} is not a safetensors file, or is cut short", remedy="get it again")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = header.pop("__metadata__", {})
        body = data[8 + length :]
        arrays = {name: _array(body, entry) for name, entry in header.items()}
        layout = "paddle" if metadata.get("format") == "pd" else "torch"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a sound safetensors file: {error}") from error
    return Tensors(arrays, layout)


def _array(body: Any, entry: dict[str, Any]) -> Any:
    start, end = entry["data_offsets"]
    shape, dtype = entry["shape"], _DTYPES[entry["dtype"]]
    counts = all(type(n) is int and n >= 0 for n in [start, end, *shape])
    if not counts or not start <= end <= len(body):
        raise ValueError("a tensor lies outside of the file")
    if end - start != math.prod(shape) * int(dtype[-1].replace("?", "1")):
        raise ValueError("a tensor's length does not fit its shape")
    array = body[start:end].copy().view(dtype).reshape(shape)
    return from_bfloat16(array) if entry["dtype"] == "BF16" else array

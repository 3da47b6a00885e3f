"""Safetensors files: arrays by name in one file, read in one pass that also hashes it.

Format: 8-byte little-endian header length, JSON header padded with spaces, tensors end to end.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError

_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "uint16": "U16"}
_NAMES = {
    **{code: np.dtype(name) for name, code in _DTYPES.items()},
    "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"), "U64": np.dtype("<u8"), "BOOL": np.dtype("?"), "BF16": np.dtype("<u2"),
}
_BLOCK = 256 << 10  # bytes read, and hashed while they are in the processor's cache


def chunks(arrays: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """The bytes of a file of `arrays`, piece by piece, without a second copy of them."""
    header, offset = {}, 0
    for name in sorted(arrays):
        array = arrays[name]
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in sorted(arrays):
        yield np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data


def read(path: Path, *, sha256: Any = None) -> dict[str, np.ndarray]:
    """The arrays of `read_all`."""
    return read_all(path, sha256=sha256)[0]


def read_all(path: Path, *, sha256: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a file by name, which share the memory that it was read into, and its metadata.

    bfloat16 becomes float32, which holds it exactly. `sha256`: what the file's bytes have to hash
    to, lowercase hex; what is returned is made of the very bytes that were hashed. DataError if
    they do not, or are no safetensors file.
    """
    data, found = _bytes(path, hashing=sha256 is not None)
    if found != sha256:
        raise DataError(f"{path} does not match its SHA-256 in the manifest")
    try:
        return _arrays(data)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError,
            RecursionError) as error:
        said = str(error).encode("ascii", "backslashreplace").decode()[:200]
        raise DataError(f"{path} is not a readable safetensors file: {said!r}") from error


def _bytes(path: Path, *, hashing: bool) -> tuple[np.ndarray, str | None]:
    """A file's bytes, uint8, and their SHA-256 if asked for."""
    digest = hashlib.sha256() if hashing else None
    with files.reading(path) as file:
        data = _memory(os.fstat(file.fileno()).st_size)
        at = 0
        while count := file.readinto(data[at : at + _BLOCK].data):
            if digest:
                digest.update(data[at : at + count].data)
            at += count
    # It may have become shorter meanwhile.
    return data[:at], digest.hexdigest() if digest else None


def _memory(size: int) -> np.ndarray:
    """uint8 [size], straight from the system.

    What numpy takes from the heap it asks to have in huge pages, and so had two threads
    waiting three times as long as their work takes (1.0 s for 715 MB).
    """
    pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, np.uint8, size)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the same values as the bfloat16 numbers whose bits are `bits` (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _arrays(data: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Views of `data`, and the metadata.

    ValueError, TypeError, KeyError, ... unless it is exactly such a file.
    """
    if data.size < 8:
        raise ValueError("it is too short")
    length = struct.unpack("<Q", data[:8].data)[0]
    if length > min(files.JSON_LIMIT, data.size - 8):
        raise ValueError(f"its header claims {length} bytes")
    header = json.loads(data[8 : 8 + length].tobytes())
    metadata = dict(header.pop("__metadata__", {}))
    values = data[8 + length :]
    found, end = {}, 0
    # Each begins where the one before ended: no byte is shared, none is left over.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _NAMES[entry["dtype"]], entry["shape"]
        start, stop = entry["data_offsets"]
        numbers = (*shape, start, stop)
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
            raise ValueError(f"{name} has an impossible shape or place")
        if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > values.size:
            raise ValueError(f"{name} does not lie where it should")
        array = values[start:stop].view(dtype).reshape(shape)
        found[name] = from_bfloat16(array) if entry["dtype"] == "BF16" else array
        end = stop
    if end != values.size:
        raise ValueError(f"{values.size - end} bytes belong to no tensor")
    return found, metadata

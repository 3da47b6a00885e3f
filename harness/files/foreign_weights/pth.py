"""Read a state dict that `torch.save` wrote (.pth, .pt, .bin), without torch.

The format (torch 1.6 and later) is a zip archive, nothing in it compressed: `NAME/data.pkl` is a
pickle in which a tensor is a call of `torch._utils._rebuild_tensor_v2` on a storage, given as a
persistent id ("storage", type, key, device, number of elements); `NAME/data/KEY` holds the
storage's bytes, little-endian. The zip's CRC-32 of each part is checked.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError
from harness.files import unpickle
from harness.files.foreign_weights import Tensors
from harness.files.tensor_files import from_bfloat16

_PICKLE_LIMIT = 64 << 20
_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1",
    "ByteStorage": "<u1", "BoolStorage": "?",
}


def read(path: Path) -> Tensors:
    """The state dict in `path`; DataError if it is broken, hostile, or not a plain state dict."""
    try:
        with files.reading(path) as file, zipfile.ZipFile(file) as archive:
            content = _Archive(archive, path).load()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError,
            KeyError, struct.error) as error:
        raise DataError(f"{path} is not a readable .pth: {error}", remedy="get it again") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no state dict", remedy="save `model.state_dict()`")
    return Tensors({_name(key, path): _array(key, v, path) for key, v in content.items()}, "torch")


class _Archive:
    """One open .pth; storages are read once each, and only those that are asked for."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self.archive, self.path = archive, path
        self.size = path.stat().st_size
        self.storages: dict[str, Any] = {}
        pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise DataError(
                f"{path} is not a .pth of torch 1.6 or later: no single data.pkl in it",
                remedy="if it is older, load and save it again with a recent torch",
            )
        self.root = pickles[0][: -len("data.pkl")]

    def load(self) -> Any:
        data = io.BytesIO(self._member("data.pkl", _PICKLE_LIMIT))
        if f"{self.root}byteorder" in self.archive.namelist():
            if self._member("byteorder", 64).strip() != b"little":
                raise DataError(f"{self.path} was written on a big-endian machine")
        names: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch", "Size"): tuple,
        }
        for name, dtype in _STORAGES.items():
            names["torch", name] = names["torch.storage", name] = _Kind(dtype)
        return unpickle.load(data, self.path, extra=names, persistent=self._storage)

    def _member(self, name: str, limit: int) -> bytes:
        info = self.archive.getinfo(self.root + name)
        # torch never compresses: whatever unpacks to more than the file is a bomb
        if info.file_size > min(limit, self.size) or info.compress_type != zipfile.ZIP_STORED:
            raise DataError(f"{self.path}: {name} is compressed or larger than the file")
        return self.archive.read(info)

    def _storage(self, identity: Any) -> np.ndarray:
        """The storage of a persistent id, as a flat array (bfloat16 as float32)."""
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise pickle.UnpicklingError("an unknown persistent id")
        kind, key, count = identity[1], identity[2], identity[4]
        if not isinstance(kind, _Kind) or not isinstance(key, str) or type(count) is not int:
            raise pickle.UnpicklingError("a malformed storage")
        if key not in self.storages:
            try:
                data = self._member(f"data/{key}", self.size)
            except KeyError:
                raise pickle.UnpicklingError(f"storage {key} is missing") from None
            dtype = np.dtype("<u2" if kind.dtype == "bf16" else kind.dtype)
            if count < 0 or len(data) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} is not as long as it says")
            flat = np.frombuffer(data, dtype)
            # Widened here, once: tensors share storages, however many they are.
            self.storages[key] = _Storage(from_bfloat16(flat) if kind.dtype == "bf16" else flat)
        return self.storages[key]


class _Kind:
    """Stands for a torch storage class such as `torch.FloatStorage`."""

    def __init__(self, dtype: str):
        self.dtype = dtype


class _Storage:
    def __init__(self, flat: np.ndarray):
        self.flat = flat


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """What `torch._utils._rebuild_tensor_v2` does, with every index checked."""
    numbers = [offset, *size, *stride]
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a malformed tensor")
    flat = storage.flat
    count = 1
    for length in size:
        count *= length
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # No more elements than the storage has: a stride of 0 could ask for any amount of memory.
    if len(size) > 8 or count > flat.size or (count and last >= flat.size):
        raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
    if not count:
        return np.zeros(size, np.float32)
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _name(key: Any, path: Path) -> str:
    if not isinstance(key, str):
        raise DataError(f"{path} holds no state dict: a name is a {type(key).__name__}")
    return key


def _array(key: str, value: Any, path: Path) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"{path}: {key[:80]!r} is a {type(value).__name__}, not a tensor",
            remedy="save the model's state_dict by itself",
        )
    return value

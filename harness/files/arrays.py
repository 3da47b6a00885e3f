"""Reading .npy and .npz that may be hostile: no pickle runs, no memory but for what is there."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import DataError
from harness.files.safe_reading import read_bytes, reading

if TYPE_CHECKING:
    import numpy as np

NPY_HEADER_LIMIT = 10_000  # numpy's own; it checks after reading


def load_npy(
    path: Path | str, *, dtype: str | None = None, shape: tuple[int, ...] | None = None,
    exact: bool = False,
) -> np.ndarray:
    """Read one .npy array of numbers, never a pickled one.

    The header is checked against the file's size before memory is taken, so a
    header that claims a terabyte costs nothing. DataError if the file is missing,
    truncated, of another dtype or shape, holds Python objects, or (`exact`) more than
    the array.
    """
    import numpy as np

    with reading(path) as file:
        found_shape, fortran, found = _npy_header(file, path)
        if dtype is not None and found != dtype:
            raise DataError(f"{path} holds {found}, expected {dtype}")
        if shape is not None and found_shape != tuple(shape):
            raise DataError(f"{path} has shape {list(found_shape)}, expected {list(shape)}")
        count = math.prod(found_shape)
        missing = file.tell() + count * found.itemsize - os.fstat(file.fileno()).st_size
        if missing > 0:
            raise DataError(
                f"{path} is truncated: {missing} bytes are missing", remedy="fetch it again"
            )
        if exact and missing:
            raise DataError(f"{path} has {-missing} bytes beyond its end")
        array = np.fromfile(file, dtype=found, count=count)
        if array.size != count:  # it became shorter while it was read
            raise DataError(f"{path} is truncated", remedy="fetch it again")
        return _shaped(array, found_shape, fortran)


def parse_npy(data: bytes, name: Path | str) -> np.ndarray:
    """The array of numbers that an .npy file's bytes are, read-only; DataError names it `name`."""
    import numpy as np

    file = io.BytesIO(data)
    shape, fortran, dtype = _npy_header(file, name)
    if len(data) - file.tell() < math.prod(shape) * dtype.itemsize:
        raise DataError(f"{name} is truncated")
    array = np.frombuffer(data, dtype, count=math.prod(shape), offset=file.tell())
    return _shaped(array, shape, fortran)


def _npy_header(file: Any, path: Path | str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype of the .npy that `file` begins with; numbers only."""
    shape, fortran, dtype = _any_npy_header(file, path)
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled Python objects", remedy="only plain arrays are read")
    if dtype.kind not in "biufc":
        raise DataError(f"{path} holds {str(dtype)[:40]}, not numbers")
    return shape, fortran, dtype


def _any_npy_header(file: Any, path: Path | str) -> tuple[tuple[int, ...], bool, np.dtype]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        form = "<H" if version == (1, 0) else "<I"
        size = file.read(struct.calcsize(form))
        # Numpy would read up to 4 GB of header and only then say that it is too long.
        if struct.unpack(form, size)[0] > NPY_HEADER_LIMIT:
            raise ValueError("its header is too long")
        header = io.BytesIO(size + file.read(*struct.unpack(form, size)))
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(header)
    except (ValueError, TypeError, EOFError, struct.error, SyntaxError, RecursionError,
            MemoryError, tokenize.TokenError) as error:  # a Python literal's parser
        raise DataError(f"{path} is not a .npy array: {_brief(error)}") from error
    # A size of zero would admit any other beside it.
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(max(n, 1) for n in shape) >= 2**48:
        raise DataError(f"{path} is not a .npy array: its shape is impossible")
    return shape, fortran, dtype


def _shaped(array: np.ndarray, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _brief(error: Exception) -> str:
    """An error's message, fit for one line: a hostile file may have written it."""
    text = (str(error) or type(error).__name__).encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def load_object_npy(path: Path | str) -> list[Any]:
    """Read a small pickled object array of strings and arrays (run_vis) without running code.

    Returns the array's elements in order. See `harness.files.unpickle`.
    """
    from harness.files import unpickle

    data = io.BytesIO(read_bytes(path, limit=64 << 20))
    _, _, dtype = _any_npy_header(data, path)
    if not dtype.hasobject:
        raise DataError(f"{path} is a plain array, expected an object array (prompt, context)")
    return unpickle.load_object_array(data, path)


def load_npz(
    path: Path | str, keys: tuple[str, ...], *, limit: int = 256 << 20, missing_ok: bool = False
) -> dict[str, Any]:
    """Read the named arrays of an .npz, never pickled ones, at most `limit` bytes unpacked.

    DataError if the archive is corrupt, an array is missing (unless `missing_ok`), or they unpack
    to more than `limit` bytes together (a zip bomb). Nothing is ever written.
    """
    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = {}
                for name in keys:
                    if missing_ok and f"{name}.npy" not in archive.namelist():
                        continue
                    arrays[name] = _load_member(archive, name, path, limit)
                    limit -= arrays[name].nbytes
                return arrays
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError,
                KeyError, OverflowError, struct.error, zlib.error) as error:
            raise DataError(f"{path} is not a readable .npz: {_brief(error)}") from error


def _load_member(
    archive: zipfile.ZipFile, name: str, path: Path | str, limit: int
) -> np.ndarray:
    import numpy as np

    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        found = ", ".join(sorted(archive.namelist())[:8]) or "nothing"
        raise DataError(f"{path} has no array {name!r} (it holds {found[:200]})") from None
    if info.file_size > limit:
        raise DataError(f"{path}: {name} unpacks to {info.file_size} bytes, too many")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {name} is compressed in a way that numpy does not write")
    with archive.open(info) as member:
        shape, fortran, dtype = _npy_header(member, f"{path}:{name}")
        count = math.prod(shape)
        if count * dtype.itemsize > limit:
            raise DataError(f"{path}: {name} claims {count * dtype.itemsize} bytes, too many")
        array = np.empty(count, dtype=dtype)
        view, at = array.view(np.uint8).data, 0
        while at < array.nbytes and (block := member.read(min(1 << 20, array.nbytes - at))):
            view[at : at + len(block)] = block
            at += len(block)
        # The last read also makes zipfile compare the checksum.
        if at != array.nbytes or member.read(1):
            raise DataError(f"{path}: {name} is truncated or has a wrong header")
    return _shaped(array, shape, fortran)

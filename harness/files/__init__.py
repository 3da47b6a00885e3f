"""Reading files that may be hostile, writing files that are never half there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    import numpy as np

_FULL = {errno.ENOSPC, errno.EDQUOT}
# What Python objects made of JSON text may take is 25 times the text.
JSON_LIMIT = 8 << 20
NPY_HEADER_LIMIT = 10_000  # numpy's own; it checks after reading


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an OSError while writing `path` into an EnvironmentFault that names it."""
    try:
        yield
    except OSError as error:
        # What copytree raises is a list of (from, to, why), without a number.
        several = isinstance(error, shutil.Error)
        reason = str(error.args[0][0][2]) if several else error.strerror or str(error)
        remedy = (
            "free some space and run the same command again"
            if error.errno in _FULL or several and os.strerror(errno.ENOSPC) in reason
            else "choose a place that can be written, then run the same command again"
        )
        raise EnvironmentFault(f"cannot write {path}: {reason}", remedy=remedy) from error


def fsync_directory(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling to write; fsync it and rename it to `path` on success.

    Whatever instant the process dies at, `path` is the old file or the new one.
    On failure the temporary file is removed and `path` is untouched.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


@contextlib.contextmanager
def staged(directory: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling directory to fill; on success it is renamed to `directory`.

    Every file in it is fsynced first, so that `directory` exists whole or not at all. It must
    not exist before, or be empty. On failure the temporary one is removed.
    """
    directory = Path(directory)
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp",
                                          dir=directory.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    with open(Path(folder) / name, "rb") as file:
                        os.fsync(file.fileno())
                fsync_directory(Path(folder))
            os.replace(temporary, directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_directory(directory.parent)


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=False, allow_nan=False)
    atomic_write_bytes(path, (text + "\n").encode())


def canonical_json(value: Any) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII; what digests are of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's content, lowercase hex; DataError if it cannot be read."""
    with reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(
            hashlib, "file_digest"
        ) else _sha256_stream(file)


def _sha256_stream(file: io.BufferedReader) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    # The only portable way to read it; the harness sets it nowhere else.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def reading(path: Path | str, *, remedy: str | None = None) -> Iterator[Any]:
    """Open a regular file; an OSError, there or inside, becomes a DataError that names it.

    Anything but a regular file is refused without waiting: a pipe would block for ever.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DataError(f"{path} is not a file", remedy=remedy)
            yield file
    except FileNotFoundError:
        raise DataError(f"{path} is missing", remedy=remedy) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", remedy=remedy) from error


def read_bytes(path: Path | str, *, remedy: str | None = None, limit: int | None = None) -> bytes:
    """The content of a regular file; DataError if missing, unreadable or over `limit` bytes."""
    with reading(path, remedy=remedy) as file:
        if limit is not None and os.fstat(file.fileno()).st_size > limit:
            raise DataError(f"{path} is larger than {limit} bytes", remedy=remedy)
        return file.read()


def read_json(path: Path | str, *, remedy: str | None = None, limit: int = JSON_LIMIT) -> Any:
    """Parse a JSON file of at most `limit` bytes; DataError names the file and the position.

    NaN and infinity, which JSON does not have, are refused.
    """
    return parse_json(read_bytes(path, remedy=remedy, limit=limit), path, remedy=remedy)


def parse_json(data: bytes, path: Path | str, *, remedy: str | None = None) -> Any:
    """`read_json` of what `path` was found to hold."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", remedy=remedy) from error


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def load_npy(
    path: Path | str, *, dtype: str | None = None, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Read one .npy array of numbers, never a pickled one.

    The header is checked against the file's size before memory is taken, so a
    header that claims a terabyte costs nothing. DataError if the file is missing,
    truncated, of another dtype or shape, or holds Python objects.
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
        array = np.fromfile(file, dtype=found, count=count)
        if array.size != count:  # it became shorter while it was read
            raise DataError(f"{path} is truncated", remedy="fetch it again")
        return _shaped(array, found_shape, fortran)


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
            MemoryError) as error:  # the header is a Python literal: its parser raises all these
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


def load_npz(path: Path | str, keys: tuple[str, ...], *, limit: int = 256 << 20) -> dict[str, Any]:
    """Read the named arrays of an .npz, never pickled ones, at most `limit` bytes unpacked.

    DataError if the archive is corrupt, an array is missing, or they unpack to more
    than `limit` bytes together (a zip bomb). Nothing is ever written.
    """
    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = {}
                for name in keys:
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

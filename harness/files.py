"""Reading files that may be hostile, writing files that are never half there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    import numpy as np

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an OSError while writing `path` into an EnvironmentFault that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = (
            "free some space and run the same command again"
            if error.errno in _FULL
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
    """SHA-256 of a file's content, lowercase hex."""
    with open(path, "rb") as file:
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


def read_bytes(path: Path | str, *, remedy: str | None = None, limit: int | None = None) -> bytes:
    """The content of a regular file; DataError if missing, unreadable or over `limit` bytes."""
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"{path} is missing or not a file", remedy=remedy)
        if limit is not None and path.stat().st_size > limit:
            raise DataError(f"{path} is larger than {limit} bytes", remedy=remedy)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", remedy=remedy) from error


def read_json(path: Path | str, *, remedy: str | None = None) -> Any:
    """Parse a JSON file (at most 64 MiB); DataError names the file and the position."""
    data = read_bytes(path, remedy=remedy, limit=64 << 20)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", remedy=remedy) from error


def load_npy(
    path: Path | str, *, dtype: str | None = None, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Read one .npy array, never a pickled one.

    The header is checked against the file's size before memory is taken, so a
    header that claims a terabyte costs nothing. DataError if the file is missing,
    truncated, of another dtype or shape, or holds Python objects.
    """
    from numpy.lib import format as npy

    path = Path(path)
    try:
        with open(path, "rb") as file:
            found_shape, fortran, found = _npy_header(npy, file, path)
            if dtype is not None and found != dtype:
                raise DataError(f"{path} holds {found}, expected {dtype}")
            if shape is not None and found_shape != tuple(shape):
                raise DataError(
                    f"{path} has shape {list(found_shape)}, expected {list(shape)}"
                )
            count = 1
            for size in found_shape:
                count *= size
            missing = file.tell() + count * found.itemsize - os.fstat(file.fileno()).st_size
            if missing > 0:
                raise DataError(
                    f"{path} is truncated: {missing} bytes are missing", remedy="fetch it again"
                )
            return _read_array(file, found, count, found_shape, fortran)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _npy_header(npy: Any, file: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is not a .npy array: {error}") from error
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled Python objects", remedy="only plain arrays are read")
    return shape, fortran, dtype


def _read_array(
    file: Any, dtype: np.dtype, count: int, shape: tuple[int, ...], fortran: bool
) -> np.ndarray:
    import numpy as np

    array = np.fromfile(file, dtype=dtype, count=count)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def load_object_npy(path: Path | str) -> list[Any]:
    """Read a small pickled object array of strings and arrays (run_vis) without running code.

    Returns the array's elements in order. See `harness.unpickle`.
    """
    from numpy.lib import format as npy

    from harness import unpickle

    path = Path(path)
    data = io.BytesIO(read_bytes(path, limit=64 << 20))
    try:
        version = npy.read_magic(data)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(data)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is not a .npy array: {error}") from error
    if not dtype.hasobject:
        raise DataError(f"{path} is a plain array, expected an object array (prompt, context)")
    return unpickle.load_object_array(data, path)


def load_npz(path: Path | str, keys: tuple[str, ...], *, limit: int = 1 << 30) -> dict[str, Any]:
    """Read the named arrays of an .npz, never pickled ones, at most `limit` bytes unpacked.

    DataError if the archive is corrupt, a key is missing, or a member unpacks to
    more than `limit` bytes (a zip bomb).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing or not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            arrays = {}
            for name in keys:
                if f"{name}.npy" not in sizes:
                    found = ", ".join(sorted(sizes)) or "nothing"
                    raise DataError(f"{path} has no array {name!r} (it holds {found})")
                if sizes[f"{name}.npy"] > limit:
                    raise DataError(f"{path}: {name} unpacks to {sizes[f'{name}.npy']} bytes")
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = _load_member(member, sizes[f"{name}.npy"], path, name)
            return arrays
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is not a readable .npz: {error}") from error


def _load_member(member: Any, size: int, path: Path, name: str) -> np.ndarray:
    import numpy as np
    from numpy.lib import format as npy

    # The size in the directory is a claim; never read more than it says.
    data = io.BytesIO(member.read(size + 1))
    shape, fortran, dtype = _npy_header(npy, data, Path(f"{path}:{name}"))
    body = data.getbuffer()[data.tell() :]
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(body):
        raise DataError(f"{path}: {name} is truncated or has a wrong header")
    array = np.frombuffer(body, dtype=dtype, count=count).copy()
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

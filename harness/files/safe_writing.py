"""Writing files that are never half there: temporary sibling, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.base.errors import EnvironmentFault, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an OSError while writing `path` into an EnvironmentFault that names it."""
    try:
        yield
    except Exception as raised:
        error = _os_error(raised)
        if error is None:
            raise
        # What copytree raises is a list of (from, to, why), without a number.
        several = isinstance(error, shutil.Error)
        reason = str(error.args[0][0][2]) if several else error.strerror or str(error)
        remedy = (
            "free some space and run the same command again"
            if error.errno in _FULL or several and os.strerror(errno.ENOSPC) in reason
            else "choose a place that can be written, then run the same command again"
        )
        raise EnvironmentFault(f"cannot write {path}: {reason}", remedy=remedy) from raised


def _os_error(error: Exception) -> OSError | None:
    """`error` if it is one. Those of Rust's libraries (safetensors) tell its number in words."""
    if isinstance(error, OSError):
        return error
    told = re.search(r"\bOs \{ code: (\d+)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else None


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


def leftovers(path: Path) -> list[Path]:
    """Temporary files that writers of `path` left when they were killed, or still write."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))


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


def refuse_taken(directory: Path) -> None:
    """UsageError if what `staged` is to make stands there already."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f"{directory} exists and is not an empty directory",
            remedy="give another -o, or remove it; nothing there was touched",
        )


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=False, allow_nan=False)
    atomic_write_bytes(path, (text + "\n").encode())


def finite(value: Any) -> Any:
    """`value`, None for NaN and infinity: JSON has neither, and null says 'not finite'."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def canonical_json(value: Any) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII; what digests are of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def json_digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _umask() -> int:
    # The only portable way to read it; the harness sets it nowhere else.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

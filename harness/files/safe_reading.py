"""Reading files that may be hostile: never a device, never more than asked for, named in errors."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from harness.base.errors import DataError, NewerFile

# What Python objects made of JSON text may take is 25 times the text.
JSON_LIMIT = 8 << 20
_DEEPEST = 100  # what is written is not ten deep


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

    NaN and infinity, which JSON does not have, are refused, and so are numbers that no float or
    no 64 bits hold.
    """
    return parse_json(read_bytes(path, remedy=remedy, limit=limit), path, remedy=remedy)


def parse_json(data: bytes, path: Path | str, *, remedy: str | None = None) -> Any:
    """`read_json` of what `path` was found to hold."""
    try:
        value = json.loads(data, parse_constant=_no_constant, parse_float=_finite, parse_int=_int64)
        refuse_deep(value, data)
        return value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", remedy=remedy) from error


def refuse_deep(value: Any, data: bytes) -> None:
    """ValueError if `value`, parsed of `data`, is nested so deeply that walking it would fail."""
    level = [value] if data.count(b"[") + data.count(b"{") > _DEEPEST else []
    for _ in range(_DEEPEST):
        level = [inner for one in level if isinstance(one, dict | list)
                 for inner in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")


def refuse_newer(found: Any, schema: int, path: Path | str) -> None:
    """NewerFile if `found`, read from `path`, has a higher `schema` than this harness knows."""
    version = found.get("schema") if isinstance(found, dict) else None
    if type(version) is int and version > schema:
        raise NewerFile(
            f"{path} was made by a newer harness (schema {version}; this one knows {schema})",
            remedy="update the harness",
        )


def is_number(value: Any, *, finite: bool = True) -> TypeGuard[float]:
    """Whether a JSON value is a number, and a finite one; true and false are none.

    An integer that no float can hold is none either.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) or not finite
    except OverflowError:
        return False


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _int64(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{text[:20]} is a number that 64 bits do not hold")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is a number that no float can hold")
    return value


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

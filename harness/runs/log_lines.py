"""Append-only JSON-lines files: what a kill can do to one is at most a torn last line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError

LIMIT = (1 << 31) - 1  # bytes of a file; a line a step is a few hundred
_TAIL = 1 << 16  # bytes, more than any line has


class Lines:
    """An append-only JSON-lines file; each line is one write, so only the last can be torn."""

    def __init__(self, path: Path, *, keep_through: int):
        """Open for appending; lines of steps after `keep_through`, or torn, are dropped."""
        self.path = path
        kept = _whole_lines(path, keep_through)
        self.steps = set(kept)
        text = b"".join(kept.values())
        with files.writing(path):
            if not path.exists() or path.read_bytes() != text:
                files.atomic_write_bytes(path, text)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, line: dict[str, Any]) -> None:
        data = _encode(line)
        with files.writing(self.path):
            written = os.write(self._descriptor, data)
            if written != len(data):  # a full disk takes part of it; the reader drops a torn line
                os.write(self._descriptor, data[written:])

    def sync(self) -> None:
        """Make what was appended survive a power cut; called before a checkpoint counts."""
        with files.writing(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file, each with an integer `step`; [] if there is no file.

    A last line without its newline was torn by a kill and is left out; any other
    bad line is a DataError that names it.
    """
    found = []
    for number, line in enumerate(_split(path), 1):
        value = _decode(line)
        if value is None:
            raise DataError(f"{path} line {number} is not a JSON object with a step")
        found.append(value)
    return found


def last_line(path: Path) -> dict[str, Any] | None:
    """The last whole line of a JSON-lines file, without reading what is before; None if none."""
    try:
        with files.reading(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read(_TAIL).split(b"\n")[:-1]
    except DataError:
        return None
    return _decode(lines[-1]) if lines else None


def _whole_lines(path: Path, keep_through: int) -> dict[int, bytes]:
    """The file's lines of steps up to `keep_through`, byte for byte, by step.

    A power cut can leave garbage behind what was synced, that is after the last
    checkpoint's step: it is dropped. Garbage before that is a DataError.
    """
    kept: dict[int, bytes] = {}
    for number, line in enumerate(_split(path), 1):
        value = _decode(line)
        if value is None:
            if any((_decode(later) or {"step": keep_through + 1})["step"] <= keep_through
                   for later in _split(path)[number:]):
                raise DataError(
                    f"{path} line {number} is not a JSON object with a step",
                    remedy="restore the file, or begin anew with --overwrite",
                )
            break
        if value["step"] <= keep_through and value["step"] not in kept:
            kept[value["step"]] = line + b"\n"
    return kept


def _split(path: Path) -> list[bytes]:
    return files.read_bytes(path, limit=LIMIT).split(b"\n")[:-1] if path.exists() else []


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        files.refuse_deep(value, line)
    except (ValueError, RecursionError):
        return None
    step = value.get("step") if isinstance(value, dict) else None
    return value if type(step) is int and abs(step) < 2**63 else None

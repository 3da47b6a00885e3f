"""Unpacking an archive of features that may be hostile, truncated or damaged.

Only regular files with a feature file's name come out, straight into one
directory; anything with a path outside it, a link or a device refuses the whole
archive. Every array is checked (shape, dtype, finite) before it is written.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness import files
from harness.base.errors import DataError
from harness.data import features
from harness.files import archive_refusals

_MOST_BYTES = 64 << 20  # of one member; features are 0.24 MB
_NOTE = ".unpacked"  # how many members are out, synced
_EVERY = 4096  # members between two notes of how far it got
_REMEDY = "the archive is damaged or not what it should be; fetch it again"


def unpack(
    archive: Path, target: Path, *, moments_shape: tuple[int, ...],
    context_shape: tuple[int, ...], progress: Callable[[int], None],
    whole: Callable[[Path], None],
) -> None:
    """Unpack `archive` into the new directory `target`, going on after a break.

    The archive's members may lie in one directory of any name. `target` appears
    when everything is in it and `whole(directory)` has not refused it. `progress` is
    called with the bytes done. DataError for an archive that is hostile, damaged or
    incomplete; what came out of it is then removed.
    """
    work = staging(target)
    try:
        _unpack(archive, work, moments_shape, context_shape, progress)
        whole(work)
    except DataError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    (work / _NOTE).unlink(missing_ok=True)
    os.sync()
    with files.writing(target):
        os.rename(work, target)
        files.fsync_directory(target.parent)


def staging(target: Path) -> Path:
    """Where what becomes `target` is unpacked."""
    return target.with_name(f".{target.name}.unpacking")


def _unpack(archive: Path, work: Path, moments_shape: tuple[int, ...],
            context_shape: tuple[int, ...], progress: Callable[[int], None]) -> None:
    with files.writing(work):
        work.mkdir(parents=True, exist_ok=True)
    done, at = _noted(work), 0
    check = _Checker(moments_shape, context_shape, prompts=work.name == ".run_vis.unpacking")
    try:
        with files.reading(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for number, member in enumerate(tar):
                tar.members = []  # type: ignore[attr-defined]  # else it keeps half a million
                name = _safe_name(member, archive)
                if name and not (number < done and _size(work / name) == member.size):
                    _extract(tar, member, work / name, archive, check)
                if number % _EVERY == _EVERY - 1:
                    _note(work, number + 1)
                progress(tar.offset - at)
                at = tar.offset
            _hold_end(file, archive, tar.offset)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, MemoryError,
            RecursionError) as error:  # headers that claim any size, or name each other for ever
        raise DataError(f"{archive} is not a sound tar archive: {error!r}",
                        remedy=_REMEDY) from error


def _safe_name(member: tarfile.TarInfo, archive: Path) -> str | None:
    """The file's name inside the target; None for what is passed over (directories, other files).

    DataError for what no archive of features holds.
    """
    parts = archive_refusals.parts(member, archive)
    if member.size < 0:  # the next header would be this one again, for ever
        raise DataError(f"{archive}: {member.name!r} has {member.size} bytes", remedy=_REMEDY)
    if member.isdir():
        return None
    archive_refusals.hold_regular(member, archive)
    if member.size > _MOST_BYTES:
        raise DataError(f"{archive}: {member.name!r} has {member.size} bytes", remedy=_REMEDY)
    name = parts[-1]
    return name if len(parts) <= 2 and re.fullmatch(r"[0-9]+(_[0-9]+)?\.npy", name) else None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, archive: Path,
             check: _Checker) -> None:
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise DataError(f"{archive} ends inside {member.name}", remedy=_REMEDY)
    what = check(data, path)
    if what:
        raise DataError(f"{archive}: {member.name} {what}", remedy=_REMEDY)
    with files.writing(path):
        path.write_bytes(data)


class _Checker:
    """Says what is wrong with a feature file's bytes, or None."""

    def __init__(self, moments_shape: tuple[int, ...], context_shape: tuple[int, ...], *,
                 prompts: bool):
        self._shapes, self._prompts = (moments_shape, context_shape), prompts

    def __call__(self, data: bytes, path: Path) -> str | None:
        if self._prompts:
            return self._prompt(data, path)
        shape = self._shapes["_" in path.name]
        header = features.npy_header("<f4", shape)
        if data.startswith(header) and len(data) == len(header) + 4 * int(np.prod(shape)):
            array = np.frombuffer(data, "<f4", offset=len(header))
        else:
            try:
                array = files.parse_npy(data, path.name)
            except DataError as error:
                return f"is not a whole .npy array ({error.message})"
            if array.shape != tuple(shape) or array.dtype != np.float32:
                return f"is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}"
        return None if np.isfinite(array).all() else "holds NaN or infinite values"

    def _prompt(self, data: bytes, path: Path) -> str | None:
        # The reader wants a file; prompts are few.
        try:
            with files.atomic_path(path) as temporary:
                temporary.write_bytes(data)
                features.read_prompt(temporary, self._shapes[1])
        except DataError as error:
            return f"is not a prompt and its context ({error.message})"
        return None


def _hold_end(file: BinaryIO, archive: Path, end: int) -> None:
    """tarfile stops without a word at a damaged header; a whole archive ends in two zero blocks."""
    file.seek(end)
    tail = file.read(1024)
    if len(tail) < 1024 or any(tail):
        raise DataError(f"{archive} is cut off or damaged at byte {end}", remedy=_REMEDY)


def _note(work: Path, members: int) -> None:
    # What the note says must be on the disk before it.
    os.sync()
    files.atomic_write_bytes(work / _NOTE, str(members).encode())


def _noted(work: Path) -> int:
    try:
        return int((work / _NOTE).read_text())
    except (OSError, ValueError):
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1

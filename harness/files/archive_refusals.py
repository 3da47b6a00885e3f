"""Tar archives that may be hostile: which members are let through, and reading plain ones.

`members` reads the plain form (POSIX ustar, regular files alone) header by header: tarfile would
first believe what extended headers say, of sizes, links and sparse maps.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.base.errors import DataError

_BLOCK = 512
_MOST_PADDING = 1 << 20  # zeros behind the end; tar writes up to 10 KiB


def parts(member: tarfile.TarInfo, archive: Path) -> list[str]:
    """A member's path inside the archive; DataError for one that leads out of it."""
    found = member.name.split("/")
    found = found[1:] if found[0] == "." else found
    hostile = (
        member.name.startswith("/") or ".." in found or "\\" in member.name or "\0" in member.name
    )
    if hostile:
        raise DataError(f"{archive} has a member outside its directory: {member.name!r}",
                        remedy="do not use this archive")
    return found


def hold_regular(member: tarfile.TarInfo, archive: Path) -> None:
    """DataError for a link, a device or anything else that is not a plain file."""
    # The old kind of sparse file counts as regular, and says so behind its header alone.
    sparse = member.sparse is not None or member.type == tarfile.GNUTYPE_SPARSE
    if not member.isreg() or sparse:
        raise DataError(f"{archive} has a link, device or odd file: {member.name!r}",
                        remedy="do not use this archive")


def members(file: Any, archive: Path) -> Iterator[tarfile.TarInfo]:
    """The members of a plain archive, open as `file`, in order; DataError for any other file.

    `offset_data` says where a member's `size` bytes begin; they are all there.
    """
    total, at = os.fstat(file.fileno()).st_size, 0
    while (block := _read(file, at, _BLOCK)) and any(block):
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise _broken(archive, at, "is no tar archive") from error
        hold_regular(member, archive)
        member.offset_data = at + _BLOCK
        if member.size < 0 or member.offset_data + member.size > total:
            raise _broken(archive, at, "is cut off")
        at = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        yield member
    padding = total - at
    if not 2 * _BLOCK <= padding <= _MOST_PADDING or any(_read(file, at, padding)):
        raise _broken(archive, at, "is cut off or goes on")


def _read(file: Any, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _broken(archive: Path, at: int, what: str) -> DataError:
    return DataError(f"{archive} {what} at byte {at:,}",
                     remedy="the archive is damaged or not what it should be; fetch it again")

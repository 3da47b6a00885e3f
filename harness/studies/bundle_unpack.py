"""Opening a bundle that may be hostile: all of it is looked at before anything is written."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError
from harness.files import archive_refusals
from harness.studies import study_bundle
from harness.studies.study_bundle import INDEX, MOST_BYTES

_MOST_MEMBERS = 200_000
_WINDOW = 1 << 20
_REMEDY = "the archive is damaged or not a study's bundle; ask for it again"


@dataclass(frozen=True)
class Opened:
    """A bundle laid out in `directory`, but for its weights. `sha256`: of every file in it, as
    its bytes are, whatever the `index` says."""

    directory: Path
    index: dict[str, Any]
    sha256: dict[str, str]


@contextlib.contextmanager
def opened(bundle: Path) -> Iterator[Opened]:
    """Lay a bundle out in a temporary directory, which goes at the end.

    DataError for what is no bundle: nothing is written then.
    """
    with files.reading(bundle, remedy=_REMEDY) as file:
        members = {one.name: one for one in _members(file, bundle)}
        index = _index(file, members, bundle)
        with files.writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
            there = Path(folder)
            sha256 = {name: _lay_out(file, members[name], there) for name in index["files"]}
            yield Opened(there, index, sha256)


def _members(file: Any, bundle: Path) -> Iterator[tarfile.TarInfo]:
    """Every member, with a name that leads nowhere else, once, and of a size that it may have."""
    seen: set[str] = set()
    for member in archive_refusals.members(file, bundle):
        archive_refusals.parts(member, bundle)
        name = member.name
        if name in seen:
            raise DataError(f"{bundle} has {name!r} twice", remedy=_REMEDY)
        if member.size > MOST_BYTES and not _is_weights(name):
            raise DataError(f"{bundle}: {name!r} has {member.size:,} bytes", remedy=_REMEDY)
        seen.add(name)
        if len(seen) > _MOST_MEMBERS:
            raise DataError(f"{bundle} has more than {_MOST_MEMBERS:,} files", remedy=_REMEDY)
        yield member


def _index(file: Any, members: dict[str, tarfile.TarInfo], bundle: Path) -> dict[str, Any]:
    """The index, which names exactly the files that are there, all by names that a bundle has.

    Its version is looked at first: a newer bundle may have files of other names.
    """
    member = members.get(INDEX)
    if member is None or member.size > files.JSON_LIMIT:
        raise DataError(f"{bundle} has no {INDEX}", remedy=_REMEDY)
    file.seek(member.offset_data)
    index = study_bundle.read_index(file.read(member.size), bundle)
    if strange := [name for name in members if name != INDEX and not study_bundle.is_name(name)]:
        raise DataError(f"{bundle} has {strange[0]!r}, which no bundle has", remedy=_REMEDY)
    listed = {name: entry["size"] for name, entry in index["files"].items()}
    there = {name: one.size for name, one in members.items() if name != INDEX}
    for name in sorted(listed.keys() ^ there.keys()):
        where = "is listed and not there" if name in listed else "is there and not listed"
        raise DataError(f"{bundle}: {name} {where}", remedy=_REMEDY)
    for name in sorted(listed):
        if listed[name] != there[name]:
            raise DataError(
                f"{bundle}: {name} has {there[name]:,} bytes and not {listed[name]:,}",
                remedy=_REMEDY,
            )
    return index


def _lay_out(file: Any, member: tarfile.TarInfo, there: Path) -> str:
    """Write a member, unless it is weights, which are but read; its SHA-256."""
    digest, left = hashlib.sha256(), member.size
    file.seek(member.offset_data)
    path = there / member.name
    with contextlib.ExitStack() as stack:
        target = None
        if not _is_weights(member.name):
            path.parent.mkdir(parents=True, exist_ok=True)
            target = stack.enter_context(open(path, "xb"))
        while left and (block := file.read(min(left, _WINDOW))):
            digest.update(block)
            left -= len(block)
            if target:
                target.write(block)
    return digest.hexdigest()


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")

"""Files that others publish, put where they are looked for: by download, or from a copy at hand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.base.progress import Progress
from harness.files import download


@dataclass(frozen=True)
class File:
    """A published file: `size` in bytes, None if nobody states it; `sha256` in hex, or its
    beginning where no more is published."""

    name: str
    size: int | None
    sha256: str


def put(file: File, target: Path, *, url: str, source: Path | None, remedy: str) -> None:
    """Put `file` at `target`, from the file `source` or else from `url`.

    What is there already and right is left alone, a broken download is continued. DataError if a
    file is not the published one, EnvironmentFault without a network (`remedy`) or on a full disk.
    """
    if target.is_file() and _differs(target, file) is None:
        return
    if source is not None:
        check(source, file)
        with files.atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    elif target.exists():
        check(target, file)
    else:
        _download(file, target, url, remedy)


def check(path: Path, file: File) -> None:
    """DataError if `path` is not the published `file`."""
    if not path.is_file():
        raise DataError(f"{path} is missing or not a file")
    if reason := _differs(path, file):
        raise DataError(
            f"{path} is not the published file: {reason}", remedy="move it away, then fetch")


def _differs(path: Path, file: File) -> str | None:
    if file.size not in (None, path.stat().st_size):
        return f"expected {file.size} bytes"
    if not files.sha256_file(path).startswith(file.sha256):
        return f"its SHA-256 does not begin with {file.sha256[:16]}"
    return None


def _download(file: File, target: Path, url: str, remedy: str) -> None:
    part = target.with_name(target.name + ".part")
    with files.writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.exists() else 0
    patience = download.Patience()
    total = file.size or download.size_of(url, patience) or 0
    with Progress(total, target.name, start=begun, unit="B") as progress:
        try:
            download.download(
                url, part, expected=file.size, patience=patience, progress=progress.advance)
        except EnvironmentFault as error:
            raise EnvironmentFault(
                error.message, remedy=f"the same command continues; without a network {remedy}",
            ) from error
    try:
        check(part, file)
    except DataError:
        part.unlink()  # a wrong beginning can never become right
        raise
    with files.writing(target):
        part.replace(target)
        files.fsync_directory(target.parent)

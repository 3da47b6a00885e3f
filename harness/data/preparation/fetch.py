"""`harness data fetch`: published archives, downloaded or brought by hand, checked, unpacked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files, runs
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.base.progress import Progress, say
from harness.data import features
from harness.data.preparation import unpack
from harness.files import download

SOURCES = Path(__file__).with_name("sources.json")
_MARGIN = 1 << 30  # bytes that stay free on the disk


@dataclass(frozen=True)
class Archive:
    """One published file. `bytes`, `sha256`, `images`, `captions`: None where not published."""

    name: str
    url: str
    bytes: int | None
    about_bytes: int
    sha256: str | None
    images: int | None = None
    captions: int | None = None

    @property
    def provides(self) -> str:
        """What it becomes in the data directory: 'train', or 'empty_context.npy'."""
        return self.name.removesuffix(".tar")


@dataclass(frozen=True)
class Sources:
    """A data set's published files and the shapes of what is in them."""

    name: str
    moments_shape: tuple[int, int, int]
    context_shape: tuple[int, int]
    archives: tuple[Archive, ...]


def read_sources(path: Path | None = None) -> Sources:
    """Parse a sources file (default: the shipped one); UsageError if it is not sound."""
    path = Path(path or SOURCES)
    try:
        found = files.read_json(path)
        archives = tuple(
            Archive(
                name=_plain_name(entry["name"]), url=str(entry["url"]),
                bytes=entry.get("bytes"), about_bytes=int(entry.get("about_bytes") or 0),
                sha256=entry.get("sha256"), images=entry.get("images"),
                captions=entry.get("captions"),
            )
            for entry in found["files"]
        )
        moments, context = tuple(found["moments_shape"]), tuple(found["context_shape"])
        return Sources(str(found["name"]), moments, context, archives)
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise UsageError(
            f"{path} is not a list of sources: {error}",
            remedy="it needs name, moments_shape, context_shape and files with name and url; "
            "`harness data fetch --show-sources` prints the shipped one",
        ) from error


def _plain_name(name: str) -> str:
    if name != "empty_context.npy" and not re.fullmatch(r"[A-Za-z0-9_]+\.tar", name):
        raise ValueError(f"{name!r} is neither NAME.tar nor empty_context.npy")
    return name


def fetch(
    directory: Path, sources: Sources, *, by_hand: Path | None = None,
    only: tuple[str, ...] = (), patience: download.Patience | None = None,
) -> list[str]:
    """Put what `sources` lists into `directory`; returns a line about each file.

    What is there stays; a broken download or unpacking goes on where it stopped.
    `by_hand`: take the archives from this directory, where they stay, and download
    nothing. `only`: names of what to fetch ('train', 'val', ...). EnvironmentFault if
    a file cannot be had or the disk is too small, DataError if it is not what was
    expected; nothing unsound is left under a final name.
    """
    directory, patience = Path(directory), patience or download.Patience()
    work = directory / ".fetch"
    with runs.locked(work):
        wanted = _wanted(sources, only)
        missing = [a for a in wanted if not (directory / a.provides).exists()]
        for archive in wanted:
            if archive not in missing:  # a kill came between unpacking and removing
                (work / archive.name).unlink(missing_ok=True)
        sizes = _sizes(missing, by_hand, patience)
        _enough_space(directory, work, missing, sizes, keep_archives=by_hand is not None)
        for archive in missing:
            _one(directory, work, archive, sources, sizes[archive.name], by_hand, patience)
        return [_said(directory, work, archive) for archive in wanted]


def _wanted(sources: Sources, only: tuple[str, ...]) -> list[Archive]:
    names = {a.provides for a in sources.archives}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(f"{sources.name} has no {unknown[0]!r}; it has {', '.join(sorted(names))}")
    return [a for a in sources.archives if not only or a.provides in only]


def _sizes(missing: list[Archive], by_hand: Path | None,
           patience: download.Patience) -> dict[str, int]:
    """Bytes of each archive: as published, as it lies there, as the server says, or about."""
    sizes = {}
    for archive in missing:
        if by_hand is not None:
            path = by_hand / archive.name
            if not path.is_file():
                raise EnvironmentFault(
                    f"{path} is missing", remedy=f"bring it by hand, or leave it out: --only; "
                    f"it comes from {archive.url}",
                )
            sizes[archive.name] = path.stat().st_size
            continue
        known = archive.bytes or download.size_of(archive.url, patience)
        sizes[archive.name] = known or archive.about_bytes
    return sizes


def _enough_space(directory: Path, work: Path, missing: list[Archive], sizes: dict[str, int],
                  *, keep_archives: bool) -> None:
    """Say what it will take, and refuse what cannot fit.

    An archive is removed once it is unpacked, so at most one lies beside the contents.
    """
    if not missing:
        return
    peak = contents = 0
    for archive in missing:
        size = sizes[archive.name]
        beside = size if archive.name.endswith(".tar") and not keep_archives else 0
        there = _bytes(work / archive.name) + _bytes(work / f"{archive.name}.part")
        there += _tree_bytes(unpack.staging(directory / archive.provides))
        peak = max(peak, contents + size + beside - there)
        contents += size
    free = shutil.disk_usage(directory).free
    total = sum(sizes[a.name] for a in missing)
    say(f"{', '.join(a.name for a in missing)}: {_gb(total)}, at most {_gb(peak)} more on disk "
        f"at any time, {_gb(free)} free in {directory}")
    if peak + _MARGIN > free and peak > 0:
        raise EnvironmentFault(
            f"{directory} has {_gb(free)} free, {_gb(peak)} are needed (archive and contents)",
            remedy="choose another disk, or fetch less at a time with --only",
        )


def _one(directory: Path, work: Path, archive: Archive, sources: Sources, size: int,
         by_hand: Path | None, patience: download.Patience) -> None:
    """Get, verify, unpack, note: each step can be taken again after a break."""
    path = by_hand / archive.name if by_hand else work / archive.name
    note = work / f"{archive.provides}.json"
    if not path.is_file():
        _download(path, archive, size, patience)
    try:
        record = _verify(path, archive)
        files.atomic_write_json(note, record)
        _place(path, directory / archive.provides, archive, sources)
    except DataError:
        # Nothing unsound is kept; an archive brought by hand is its owner's.
        note.unlink(missing_ok=True)
        if by_hand is None:
            path.unlink()
        raise
    if by_hand is None:
        path.unlink()


def _place(path: Path, target: Path, archive: Archive, sources: Sources) -> None:
    """Check what the file holds and put it under its final name."""
    if archive.name == "empty_context.npy":
        features.empty_context(path.parent, sources.context_shape)
        with files.atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
        return

    def whole(folder: Path) -> None:
        if archive.provides == "run_vis":
            if not any(folder.glob("*.npy")):
                raise DataError(f"{path} holds no prompts", remedy="fetch it again")
            return
        counts = features.count_captions(features.list_features(folder))
        for what, expected, found in (
            ("images", archive.images, len(counts)), ("captions", archive.captions, sum(counts)),
        ):
            if expected is not None and expected != found:
                raise DataError(f"{path} holds {found} {what}, expected {expected}",
                                remedy="it is incomplete or another file; fetch it again")

    size = path.stat().st_size
    with Progress(_mb(size), f"unpack {archive.name}", unit="MB") as progress:
        unpack.unpack(
            path, target, moments_shape=sources.moments_shape,
            context_shape=sources.context_shape, progress=_megabytes(progress), whole=whole,
        )


def _download(path: Path, archive: Archive, size: int, patience: download.Patience) -> None:
    part = path.with_name(f"{path.name}.part")
    there = _bytes(part)
    for last in (False, True):
        label = f"fetch {archive.name}"
        with Progress(_mb(size), label, start=_mb(there), unit="MB") as progress:
            pieced = download.download(
                archive.url, part, expected=archive.bytes, patience=patience,
                progress=_megabytes(progress),
            )
        found = files.sha256_file(part) if archive.sha256 else None
        if found == archive.sha256 or found is None:
            break
        part.unlink()
        # Pieces of different replies may be of different files: once more, in one piece.
        if last or not pieced:
            raise _wrong(archive, archive.url, found)
        say(f"{archive.name}: the pieces do not fit together; fetching it again")
        there = 0
    with files.writing(path):
        os.replace(part, path)


def _verify(path: Path, archive: Archive) -> dict[str, Any]:
    """Hold the whole file against what is published; what the note of it says."""
    found, size = files.sha256_file(path), path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        raise DataError(f"{path} has {size} bytes, expected {archive.bytes}",
                        remedy="fetch it again")
    if archive.sha256 is not None and found != archive.sha256:
        raise _wrong(archive, str(path), found)
    return {
        "url": archive.url, "bytes": size, "sha256": found,
        "verified": "sha256" if archive.sha256 else "structure",
    }


def _wrong(archive: Archive, where: str, found: str) -> DataError:
    return DataError(
        f"{where} has SHA-256 {found}, expected {archive.sha256}",
        remedy="it is damaged or another file; fetch it again, or correct --sources FILE",
    )


def _said(directory: Path, work: Path, archive: Archive) -> str:
    note = work / f"{archive.provides}.json"
    if not note.is_file():
        return (f"{archive.provides}: was there, not fetched by this command; "
                f"`harness data check {directory}` tells whether it is sound")
    record = files.read_json(note)
    how = (
        "as published" if record.get("verified") == "sha256"
        else "no SHA-256 is published; every array in it is whole"
    )
    return f"{archive.provides}: {record['bytes']} bytes, SHA-256 {record['sha256']} ({how})"


def _mb(count: int) -> int:
    return count // 1_000_000


def _megabytes(progress: Progress) -> Callable[[int], None]:
    """Advances `progress`, which counts whole megabytes, by bytes."""
    total = 0

    def advance(count: int) -> None:
        nonlocal total
        before, total = total, total + count
        if _mb(total) != _mb(before):
            progress.advance(_mb(total) - _mb(before))

    return advance


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _tree_bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else 0


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if abs(count) >= 5e7 else f"{count / 1e6:.1f} MB"

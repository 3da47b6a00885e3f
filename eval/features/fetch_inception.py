"""Bringing the Inception weights to where pytorch-fid looks for them."""

from __future__ import annotations

import shutil
from pathlib import Path

from eval.features.inception import OFFICIAL_SHA256_PREFIX, URL, weights_path
from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.base.progress import Progress

_CHUNK = 1 << 20


def inception(source: Path | None = None, *, url: str = URL) -> Path:
    """Put the weights in place, from `source` or by download; returns their path.

    What is there already and right is left alone. DataError if a file's SHA-256 is not the
    published one's, EnvironmentFault without a network or on a full disk.
    """
    target = weights_path()
    if target.is_file() and _is_official(target):
        return target
    if target.exists() and source is None:
        raise DataError(
            f"{target} exists but is not the published file", remedy="move it away, then fetch"
        )
    if source is not None:
        if not source.is_file():
            raise DataError(f"{source} is missing or not a file")
        _check(source)
        with files.atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return target
    part = target.with_name(target.name + ".part")
    _download(url, part)
    try:
        _check(part)
    except DataError:
        part.unlink()  # a wrong beginning can never become right
        raise
    with files.writing(target):
        part.replace(target)
        files.fsync_directory(target.parent)
    return target


def _download(url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on from what is there."""
    import requests

    with files.writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=30) as response:
            if response.status_code == 416:  # nothing is left to fetch
                return
            response.raise_for_status()
            if response.status_code != 206:
                begun = 0  # the server sends everything again
            total = begun + int(response.headers.get("Content-Length", 0))
            _store(response, part, begun, total)
    except requests.RequestException as error:
        raise _no_network(url, type(error).__name__) from error
    if part.stat().st_size < total:  # requests takes a connection that broke off for the end
        raise _no_network(url, "the connection broke off")


def _no_network(url: str, reason: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"cannot download {url}: {reason}",
        remedy="the same command continues; without a network fetch the file elsewhere and "
        "give it with --from FILE",
    )


def _store(response, part: Path, begun: int, total: int) -> None:
    mode = "ab" if begun else "wb"
    progress = Progress(total, "Inception weights", start=begun, unit="B")
    with files.writing(part):
        file = open(part, mode)
    with file, progress:
        for chunk in response.iter_content(_CHUNK):
            with files.writing(part):  # around the writing alone: requests' errors are OSErrors too
                file.write(chunk)
            progress.advance(len(chunk))


def _is_official(path: Path) -> bool:
    return files.sha256_file(path).startswith(OFFICIAL_SHA256_PREFIX)


def _check(path: Path) -> None:
    if not _is_official(path):
        raise DataError(
            f"{path} is not the published file: its SHA-256 does not begin with "
            f"{OFFICIAL_SHA256_PREFIX}",
            remedy=f"it is {URL}",
        )

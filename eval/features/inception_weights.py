"""The Inception weights: which file is the published one, where pytorch-fid looks, fetching it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.base.progress import Progress

FILE_NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE_NAME}"
# torch.hub's convention: the file's name ends in the first eight digits of its SHA-256.
OFFICIAL_SHA256_PREFIX = "6726825d"
_CHUNK = 1 << 20


def weights_path() -> Path:
    """Where torch.hub, and so pytorch-fid, looks for the weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints" / FILE_NAME


def find_weights(path: Path | str | None = None) -> Path:
    """`path`, or the weights where torch.hub has them; EnvironmentFault if they are missing."""
    found = Path(path) if path else weights_path()
    if not found.is_file():
        raise EnvironmentFault(
            f"the Inception weights are missing: {found}",
            remedy="`harness fetch inception` downloads them there; without a network, "
            f"`harness fetch inception --from FILE` with {URL}",
        )
    return found


def fetch(source: Path | None = None, *, url: str = URL) -> Path:
    """Put the weights in place, from `source` or by download; returns their path.

    What is there already and right is left alone. DataError if a file's SHA-256 is not the
    published one's, EnvironmentFault without a network or on a full disk.
    """
    target = weights_path()
    if target.is_file() and is_official(files.sha256_file(target)):
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


def is_official(sha256: str) -> bool:
    """Whether this is the SHA-256 (hex) of the published file."""
    return sha256.startswith(OFFICIAL_SHA256_PREFIX)


def _check(path: Path) -> None:
    if not is_official(files.sha256_file(path)):
        raise DataError(
            f"{path} is not the published file: its SHA-256 does not begin with "
            f"{OFFICIAL_SHA256_PREFIX}",
            remedy=f"it is {URL}",
        )

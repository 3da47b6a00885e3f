"""One file over HTTP, resumed after a break, complete or not there."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.base.progress import say

_BLOCK = 1 << 20
_GONE = {400, 401, 403, 404, 405, 410, 451}  # asking again will not help


@dataclass(frozen=True)
class Patience:
    """How long to try: `attempts` in a row without new data, pauses doubling from `pause` s."""

    attempts: int = 6
    pause: float = 1.0
    connect_timeout: float = 15.0
    read_timeout: float = 60.0


class _Again(Exception):
    """The transfer broke; what was received stays and the next attempt goes on from there."""


def size_of(url: str, patience: Patience) -> int | None:
    """The size that the server states for `url`, bytes; None if it does not."""
    import requests

    try:
        reply = requests.head(
            url, allow_redirects=True, timeout=patience.connect_timeout,
            headers={"Accept-Encoding": "identity"},
        )
    except requests.RequestException:
        return None
    length = reply.headers.get("Content-Length", "") if reply.status_code == 200 else ""
    return int(length) if length.isascii() and length.isdigit() else None


def download(
    url: str, part: Path, *, expected: int | None, patience: Patience,
    progress: Callable[[int], None],
) -> bool:
    """Fetch `url` into `part`, going on from what is there; True if more than one reply made it.

    `expected`: the size in bytes, if known. `progress` is called with the bytes that
    were received (negative: thrown away). EnvironmentFault if the server does not
    give the whole file; DataError if it is not the file that was expected.
    """
    if not url.startswith(("http://", "https://")):
        raise EnvironmentFault(f"{url} is not an http(s) address")
    state = part.with_name(part.name + ".json")
    failures, replies, most = 0, 0, _size(part)
    while True:
        try:
            replies += 1
            pieces = _transfer(url, part, state, expected, patience, progress)
            state.unlink(missing_ok=True)
            return pieces or replies > 1
        except _Again as error:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures >= patience.attempts:
                raise EnvironmentFault(
                    f"cannot fetch {url}: {error}",
                    remedy="run the same command again; it goes on from where it stopped",
                ) from error
            say(f"{part.name}: {error}; trying again")
            time.sleep(patience.pause * 2 ** min(failures, 6))


def _transfer(
    url: str, part: Path, state: Path, expected: int | None, patience: Patience,
    progress: Callable[[int], None],
) -> bool:
    """One reply, appended to `part`; True if it went on from an earlier one."""
    import requests
    import urllib3

    known = _state(state, url)
    if known is None and _size(part):
        # Nothing says what the bytes that are there belong to.
        _forget(part, state, progress)
    have = _size(part)
    try:
        with requests.get(
            url, stream=True, headers=_headers(have, known),
            timeout=(patience.connect_timeout, patience.read_timeout),
        ) as reply:
            have, total = _begin(reply, url, part, state, known, progress)
            _hold_size(url, total, expected, part, state, progress)
            digest = _content_md5(reply)
            with files.writing(part), open(part, "ab") as file:
                for block in reply.raw.stream(_BLOCK, decode_content=False):
                    file.write(block)
                    if digest:
                        digest[1].update(block)
                    have += len(block)
                    progress(len(block))
                file.flush()
                os.fsync(file.fileno())
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Again(f"the connection broke ({_cause(error)})") from error
    return _complete(url, part, state, have, total, digest, reply.status_code == 206, progress)


def _complete(url: str, part: Path, state: Path, have: int, total: int | None, digest: Any,
              resumed: bool, progress: Callable[[int], None]) -> bool:
    if total is not None and have < total:
        raise _Again(f"the connection ended {total - have} bytes early")
    if total is not None and have > total:
        _forget(part, state, progress)
        raise DataError(f"{url} gave {have} bytes, {total} were announced")
    if digest and not resumed and digest[0] != digest[1].digest():
        _forget(part, state, progress)
        raise _Again("the content does not match the Content-MD5 that was announced")
    return resumed


def _headers(have: int, known: dict[str, Any] | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if have and known:
        headers["Range"] = f"bytes={have}-"
        headers["If-Range"] = known["validator"]
    return headers


def _begin(
    reply: Any, url: str, part: Path, state: Path, known: dict[str, Any] | None,
    progress: Callable[[int], None],
) -> tuple[int, int | None]:
    """Read the reply's head: (bytes that `part` holds, total size if stated)."""
    status, have = reply.status_code, _size(part)
    if status in _GONE:
        raise EnvironmentFault(
            f"{reply.url} cannot be fetched: the server answers {status}",
            remedy="give other addresses with --sources FILE, or bring the archive by hand: --from",
        )
    if status == 206 and known:
        start, whole = _content_range(reply.headers.get("Content-Range", ""))
        if start == have and whole == known["bytes"]:
            return have, whole
    if status in (206, 416):
        _forget(part, state, progress)
        raise _Again("the server's part does not fit what is there")
    if status != 200:
        raise _Again(f"the server answers {status}")
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise EnvironmentFault(f"{reply.url} is sent encoded; it must come as it is")
    _forget(part, state, progress)
    length = reply.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else None
    validator = _validator(reply.headers)
    if validator and total is not None:
        said = {"url": url, "validator": validator, "bytes": total}
        files.atomic_write_json(state, said)
    return 0, total


def _hold_size(url: str, total: int | None, expected: int | None, part: Path, state: Path,
               progress: Callable[[int], None]) -> None:
    if total is not None and expected is not None and total != expected:
        _forget(part, state, progress)
        raise DataError(
            f"{url} has {total} bytes, expected {expected}",
            remedy="the file on the server is another one; give its addresses with --sources FILE",
        )


def _validator(headers: Any) -> str | None:
    """What If-Range can hold the file against: a strong ETag, or the date of change."""
    tag = headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified") or None


def _content_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def _content_md5(reply: Any) -> tuple[bytes, Any] | None:
    text = reply.headers.get("Content-MD5", "")
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    if len(digest) != 16:
        return None
    return digest, hashlib.md5(usedforsecurity=False)


def _state(state: Path, url: str) -> dict[str, Any] | None:
    """The state that an earlier attempt left for this address, or None."""
    try:
        found = files.read_json(state) if state.is_file() else None
    except DataError:
        return None
    sound = (
        isinstance(found, dict) and isinstance(found.get("validator"), str)
        and type(found.get("bytes")) is int and found.get("url") == url
    )
    return found if sound else None


def _forget(part: Path, state: Path, progress: Callable[[int], None]) -> None:
    progress(-_size(part))
    with files.writing(part):
        part.unlink(missing_ok=True)
        state.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _cause(error: BaseException) -> str:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(error) or type(error).__name__

"""A file changed at random, so that more than its outermost check is reached.

`FORMS`: name -> function of (bytes, random.Random) giving other bytes. Numbers decide: the same
generator gives the same file.
"""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from typing import Any

from tests.fuzz import bundles, door, run_doors

_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x0A, 0x20)
# What a reader may not have thought of. Floats of JSON that Python reads as infinite, too.
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 0.5, "", "x",
    "\ud800", "\x00\x1b[31m\n", "../../x", "9" * 5000, "inf", [], {}, [[]], [1, 2], {"a": {}},
    [None], {"": None}, float("inf"), float("nan"),
)
_WORDS = (b"null", b"-1", b"1e999", b"NaN", b"{}", b"[]", b'""', b'"x"', b"true", b"9" * 400, b"\n",
          b'"\\ud800"', b"0", b"{", b"}", b"[" * 50, b"\x00", b"\xff\xfe", b" = ", b"Infinity")


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """One to four bytes or stretches overwritten, inserted, doubled, moved or cut away."""
    found = bytearray(data or b"\0")
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found) + 1)
        length = min(draw.choice((1, 1, 2, 4, 8, 64)), len(found) - at)
        kind = draw.randrange(8)
        if kind == 0:
            found[at : at + 1] = bytes([draw.choice(_BYTES)])
        elif kind == 1 and length:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            found[at : at + length] = draw.randbytes(length)
        elif kind == 3:
            del found[at : at + length]
        elif kind == 4:
            found[at:at] = found[at : at + length] * draw.choice((1, 2, 100))
        elif kind == 5:
            place = draw.randrange(len(found) + 1)
            found[place : place + length] = found[at : at + length]
        elif kind == 6:
            found[at:at] = draw.choice(_WORDS)
        else:
            size = draw.choice((2, 4, 8))
            number = draw.choice((0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, len(found)))
            found[at : at + size] = number.to_bytes(size, "little")
    return bytes(found[: draw.randrange(len(found))] if draw.random() < 0.05 and found else found)


def of_lines(data: bytes, draw: random.Random) -> bytes:
    """Lines moved, doubled, joined; values replaced; or bytes, as any."""
    if draw.random() < 0.3:
        return of_bytes(data, draw)
    lines = data.split(b"\n")
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        kind = draw.randrange(4)
        if kind == 0:
            lines.insert(draw.randrange(len(lines) + 1), lines[at])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = of_json(lines[at], draw)
        else:
            words = lines[at].split(b" ")
            words[draw.randrange(len(words))] = draw.choice(_WORDS)
            lines[at] = b" ".join(words)
    return b"\n".join(lines)


def of_json(data: bytes, draw: random.Random) -> bytes:
    """One to three values of the document replaced, removed, renamed or put elsewhere."""
    if draw.random() < 0.2:
        return of_bytes(data, draw)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(data, draw)
    for _ in range(draw.randint(1, 3)):
        value = _changed(value, draw)
    text = json.dumps(value, ensure_ascii=draw.random() < 0.8)
    if draw.random() < 0.8:  # what Python writes and JSON lacks is mostly refused at once
        text = text.replace("Infinity", "1e999").replace("NaN", "1e-999")
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, draw: random.Random) -> Any:
    inside = list(_places(value))
    if not inside or draw.random() < 0.02:
        return copy.deepcopy(draw.choice(_VALUES))
    owner, key = draw.choice(inside)
    kind = draw.randrange(8)
    if kind == 0:
        del owner[key]
    elif kind == 1:
        other, there = draw.choice(inside)
        owner[key] = copy.deepcopy(other[there])
    elif kind == 2 and isinstance(owner, dict):
        owner[draw.choice(("", "schema", "step", "\ud800", "x\x1b"))] = owner.pop(key)
    elif kind == 3 and isinstance(owner[key], str) and owner[key]:
        owner[key] = of_bytes(owner[key].encode("utf-8", "replace"), draw).decode("latin1")
    elif kind == 4 and isinstance(owner[key], float):
        owner[key] = draw.choice((-owner[key], owner[key] + 1, round(owner[key], 1), [owner[key]]))
    elif kind == 5 and isinstance(owner[key], int):
        owner[key] = draw.choice((-owner[key], owner[key] + 1, 2 * owner[key], [owner[key]]))
    else:
        owner[key] = copy.deepcopy(draw.choice(_VALUES))
    return value


def _places(value: Any) -> Any:
    """(owner, key) of every value inside."""
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def of_zip(data: bytes, draw: random.Random) -> bytes:
    """A member changed, and zipped again with the checksum that fits; or bytes of the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            compression = archive.infolist()[0].compress_type
            parts = {info.filename: archive.read(info) for info in archive.infolist()
                     if info.file_size < 1 << 20}
        if draw.random() < 0.3:
            return of_bytes(data, draw)
        name = draw.choice(list(parts))
        if draw.random() < 0.1:
            parts[draw.choice(("", "x\n", "a/data.pkl", "../x"))] = parts.pop(name)
        else:
            parts[name] = of_bytes(parts[name], draw)
        return door.made(lambda file: door.zipped(file, parts, compression))
    except Exception:  # no longer a zip, in whatever way
        return of_bytes(data, draw)


def of_tar(data: bytes, draw: random.Random) -> bytes:
    """Bytes changed, and the checksums of headers made to fit again."""
    found = bytearray(of_bytes(data, draw))
    if draw.random() < 0.3:
        at = 512 * draw.randrange(max(len(found) // 512, 1)) + draw.choice((100, 124, 136, 156))
        field = draw.choice((b"\x80" + b"\0" * 6 + b"\x01", b"77777777777\0", b"-1\0", b"5", b"L",
                             b"x", b"S", b"1", b"\xff" * 12))
        found[at : at + len(field)] = field
    for at in range(0, len(found) - 511, 512):
        header = found[at : at + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(header)
    return bytes(found)


def of_bundle(data: bytes, draw: random.Random) -> bytes:
    """A file of a study's bundle changed, and digests that fit again; or its tar."""
    try:
        parts = bundles.parts(data)
        if draw.random() < 0.1:
            return of_tar(data, draw)
        name = draw.choice(list(parts))
        change = {"json": of_json, "jsonl": of_lines}.get(name.rpartition(".")[2], of_bytes)
        if draw.random() < 0.05:
            del parts[name]
        elif draw.random() < 0.05:
            parts[draw.choice(("state/a.json", "cells/x/run.json"))] = parts.pop(name)
        else:
            parts[name] = change(parts[name], draw)
        for name in parts:
            if name.endswith(("run.json", "manifest.json", "study.json")):
                parts[name] = run_doors.with_digest(parts[name])
        return bundles.tar(parts)
    except Exception:  # no longer a bundle, in whatever way
        return of_tar(data, draw)


FORMS = {"bytes": of_bytes, "lines": of_lines, "json": of_json, "zip": of_zip, "tar": of_tar,
         "bundle": of_bundle}

"""What people said of a night: `HISTORY/notes.jsonl`, a JSON object a line.

    {"night": "2026-11-22", "runner": null, "config": "small", "metric": "throughput",
     "text": "known, accepted", "time": "2026-11-23T08:12:00+00:00"}

null: of all of them. A line without `schema` is of version 1.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baselines.nights import kept_nights
from baselines.nights.kept_nights import Night
from harness import files
from harness.base.errors import DataError, UsageError

FILE = "notes.jsonl"
SCHEMA = 1
_LIMIT = 8 << 20


@dataclass(frozen=True)
class Note:
    """A text about one night, of one runner, config and metric, or of all (None)."""

    night: str
    text: str
    runner: str | None = None
    config: str | None = None
    metric: str | None = None
    time: str = ""


def read(history: Path) -> list[Note]:
    """The notes, oldest first; DataError names a line that is none."""
    path = history / FILE
    if not path.is_file():
        return []
    lines = files.read_bytes(path, limit=_LIMIT).splitlines()
    return [_note(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _note(path: Path, number: int, line: bytes) -> Note:
    value = files.parse_json(line, f"{path} line {number}")
    files.refuse_newer(value, SCHEMA, f"{path} line {number}")
    fields: dict[str, Any] = {
        key: value.get(key) for key in ("night", "text", "runner", "config", "metric", "time")
    } if isinstance(value, dict) else {}
    texts = [fields.get(key) for key in ("night", "text", "time")]
    rest = [fields.get(key) for key in ("runner", "config", "metric")]
    if not all(isinstance(one, str) for one in texts) or not all(
        isinstance(one, str | None) for one in rest
    ):
        raise DataError(f"{path} line {number} is not a note", remedy="mend or remove the line")
    return Note(**fields)


def add(history: Path, note: Note) -> None:
    """Append `note`, with the time; the file is never half there, and of two writers none is lost.

    UsageError if the history has no such night, or the night no such runner, config or metric;
    DataError if a line that is there is none, or a newer harness's.
    """
    read(history)
    known = sorted(p.name for p in history.iterdir() if p.is_dir()) if history.is_dir() else []
    if note.night not in known:
        raise UsageError(f"{history} has no night {note.night!r}",
                         remedy=f"the last are {', '.join(known[-3:]) or 'none'}")
    _check(list(kept_nights.of_night(history / note.night)), note)
    now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
    path = history / FILE
    with files.writing(path):
        holder = os.open(history, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        before = files.read_bytes(path, limit=_LIMIT) if path.is_file() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        line = json.dumps({**asdict(note), "time": now}).encode() + b"\n"
        files.atomic_write_bytes(path, before + line)
    finally:
        os.close(holder)


def _check(nights: list[Night], note: Note) -> None:
    cells = [(night.runner, cell) for night in nights for cell in night.cells]
    for what, wanted, known in (
        ("runner", note.runner, {runner for runner, _ in cells}),
        ("config", note.config, {cell["config"] for _, cell in cells}),
        ("metric", note.metric, {key for _, cell in cells for key in cell["metrics"]}),
    ):
        if wanted is not None and wanted not in known:
            raise UsageError(f"the night {note.night} has no {what} {wanted!r}",
                             remedy=f"it has {', '.join(sorted(known))}")

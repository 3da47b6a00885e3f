"""What workers tell the process that had them launched: each one's last error, rank 0's result.

Files in a folder that an environment variable names: launchers pass no more than an exit code on,
and not always the right one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness import files

FOLDER = "HARNESS_RANK_REPORTS"
EXPECTED = (2, 4, 5, 3)  # exit codes of expected errors; the first one found is the job's
NO_ANSWER = "no answer from another worker for 30 s"


def _folder() -> Path | None:
    """Where somebody reads what this worker reports, or None."""
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder and Path(folder).is_dir() else None


def error(code: int, message: str, *, kind: str = "own") -> bool:
    """Leave a worker's last error; returns whether somebody will read it.

    `kind`: its "own" error, or what it ends because of: another rank's error that it has "heard"
    of, or another rank "lost", which may be on another machine.
    """
    folder = _folder()
    if folder:
        rank, worker = _numbers()
        report = {
            "rank": rank, "worker": worker, "code": code, "message": message, "kind": kind,
        }
        (folder / f"{rank}.json").write_text(json.dumps(report))
    return bool(folder)


def _numbers() -> tuple[int, int]:
    """This process's rank in the job, and its place on this machine."""
    rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    return rank, int(os.environ.get("PADDLE_RANK_IN_NODE", rank))


def is_no_answer(text: str) -> bool:
    """Whether `text` is what gloo says of a worker that did not take part in time."""
    return "gloo" in text and "TIMEOUT" in text


def done() -> None:
    """Say that this worker has done its work: whoever says nothing at all was killed."""
    if folder := _folder():
        (folder / f"{_numbers()[1]}.done").touch()


def result(text: str) -> None:
    """Print what the command prints: on stdout of the process that the user started."""
    folder = _folder()
    if folder:
        files.atomic_write_bytes(folder / "result", text.encode())
    else:
        print(text)


def read_errors(folder: Path) -> list[dict[str, Any]]:
    """Of each rank that ended with an error; what was expected first, as the cause of the rest."""
    told = [files.read_json(path) for path in folder.glob("*.json")]
    return sorted(told, key=lambda one: (one["code"] not in EXPECTED, one["rank"]))


def read_silent(folder: Path, workers: int) -> list[int]:
    """Of `workers` on this machine, those that said nothing: neither an error nor that all is done.

    Killed, or crashed in C++.
    """
    spoken = {one["worker"] for one in read_errors(folder)}
    spoken |= {int(path.stem) for path in folder.glob("*.done")}
    return [number for number in range(workers) if number not in spoken]


def read_result(folder: Path) -> str:
    """Rank 0's result, "" if it has none or ran elsewhere."""
    path = folder / "result"
    return path.read_text() if path.exists() else ""


def in_words(told: list[dict[str, Any]]) -> str:
    """Every rank's last error with the rank's name; equal ones once."""
    messages: dict[str, list[int]] = {}
    for one in told:
        messages.setdefault(one["message"], []).append(one["rank"])
    return "; ".join(
        f"rank {', '.join(map(str, ranks))}: {message}" for message, ranks in messages.items()
    )

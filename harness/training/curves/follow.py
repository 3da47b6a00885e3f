"""The process that writes a run's curves: `python -m harness.training.curves.follow RUN KIND...`.

It reads what the run writes for itself, and so can neither slow nor end it. What it makes it makes
whole: begun again (after a kill, or a run that goes on) it writes everything anew, so that no point
is there twice and none is missing. It ends when its standard input does, with the process that
trains, after a last look.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import configs, files, runs
from harness.base.errors import DataError, EnvironmentFault
from harness.files.image_reading import opened_image
from harness.training.curves import points, writers

FOLDER = "live"
EVERY = 2.0  # seconds between two looks
_LEAST = 4 << 20  # bytes that must be free: VisualDL drops what it cannot write, and goes on
_SHARE = 0.01  # of a core, at most, for looking at a long run again and again


def follow(run: runs.Run, kinds: tuple[str, ...], *, once: bool = False) -> None:
    """Write curves of `run` to RUN/live/<kind>/ until standard input ends; `once`: and no more.

    EnvironmentFault where the disk is full.
    """
    reader = points.Reader(run)
    _require_room(run)
    with contextlib.ExitStack() as stack:
        opened = [_open(run, kind) for kind in kinds]
        for writer in opened:
            stack.callback(writer.close)
        last = once
        while True:
            began = time.monotonic()
            _write(list(reader.new()), opened)
            _require_room(run)
            if last:
                return
            took = time.monotonic() - began
            last = _ended(max(EVERY, took / _SHARE))


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Waits for another such process of this run, which is about to end, to have ended.

    EnvironmentFault if nothing can be written there.
    """
    folder = directory / FOLDER
    with files.writing(folder):
        folder.mkdir(exist_ok=True)
        with open(folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _open(run: runs.Run, kind: str) -> writers.Writer:
    folder = run.directory / FOLDER / kind
    shutil.rmtree(folder, ignore_errors=True)
    values = {"seed": run.seed, **configs.flat(run.info["config"])}
    writer: writers.Writer = writers.WRITERS[kind](folder, run.name, values)
    return writer


def _write(new: list[Any], opened: list[writers.Writer]) -> None:
    for point in new:
        if isinstance(point, points.Picture):
            if (image := _pixels(point.path)) is not None:
                for writer in opened:
                    writer.image(point.tag, point.step, image)
        else:
            for writer in opened:
                writer.scalar(point.tag, point.step, point.value)
    for writer in opened if new else ():
        writer.flush()


def _require_room(run: runs.Run) -> None:
    free = shutil.disk_usage(run.directory).free
    if free < _LEAST:
        raise EnvironmentFault(
            f"cannot write {run.directory / FOLDER}: {free:,} bytes are free",
            remedy=f"free {_LEAST:,} and run the same command again",
        )


def _pixels(path: Path) -> np.ndarray | None:
    with contextlib.suppress(DataError), opened_image(path) as image:
        return np.asarray(image.convert("RGB"))
    return None


def _ended(seconds: float) -> bool:
    """Whether standard input ends within `seconds`."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def main(arguments: list[str]) -> None:
    """Until whoever trains has gone: its signals are not this process's to end by."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    directory, *kinds = arguments
    with alone(Path(directory)):
        follow(runs.load(Path(directory)), tuple(kinds))


if __name__ == "__main__":
    main(sys.argv[1:])

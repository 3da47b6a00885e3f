"""Starting the process that writes a run's curves, and parting from it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import runs
from harness.base.progress import say
from harness.training.curves import follow

_LAST_LOOK = 15.0  # seconds that it has for what is left when training has ended


@contextlib.contextmanager
def reporting(run: runs.Run, kinds: tuple[str, ...]) -> Iterator[None]:
    """Have the curves of `run` written by `kinds` while the block runs.

    Whatever happens to the process there, the block is not disturbed; afterwards one line says
    that the curves are not whole.
    """
    if not kinds:
        yield
        return
    folder = run.directory / follow.FOLDER
    said = folder / "said.txt"
    try:
        folder.mkdir(exist_ok=True)
        process = _start(run.directory, kinds, said)
    except OSError as error:
        say(f"warning: no curves are written: {error}")
        yield
        return
    try:
        yield
    finally:
        _part(process, said)


def _start(directory: Path, kinds: tuple[str, ...], said: Path) -> subprocess.Popen[bytes]:
    module = "harness.training.curves.follow"
    command = [sys.executable, "-m", module, str(directory.resolve()), *kinds]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with open(said, "wb") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,
        )


def _part(process: subprocess.Popen[bytes], said: Path) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        code = process.wait(_LAST_LOOK)
        reason = f"their process ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        reason = f"their process took more than {_LAST_LOOK:g} s"
    if reason:
        say(f"warning: curves are not whole: {reason} (see {said}); "
            f"`harness runs curves {said.parents[1]}` makes them anew")

"""Fills a disk at every part of what a command writes; a program, in a mount namespace of its own.

    unshare -rm python -m tests.faults.full_disk COMMAND INPUTS DISK

INPUTS holds `digits`, `run`, `nights`, and `study` with its file. DISK becomes a tmpfs with
a few bytes more each time: the command ends in one line and 5, or 0, and with space does again what
it does undisturbed. At last it may only be read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.command import assert_one_line_error
from tests.faults import cases
from tests.faults.striking import bits
from tests.warm import Warm

STEPS = 6  # sizes of the disk
COMMANDS = {
    "eval": ("eval", "{disk}/run", "--fid", "--n-samples", "12", "--steps", "2"),
    "report": ("report", "{inputs}/run", "--history", "{inputs}/nights", "-o", "{disk}/report"),
    "data pack": ("data", "pack", "{inputs}/digits", "-o", "{disk}/packed"),
    "export": ("export", "{inputs}/run", "-o", "{disk}/exported"),
    "history build": ("history", "build", "{disk}/nights", "-o", "{disk}/site"),
    "history note": ("history", "note", "{disk}/nights", "2026-11-24"),
    "study run": ("study", "run", "{inputs}/study.toml", "-o", "{disk}/study", "--jobs", "1",
                  "--data", "{inputs}/features"),
    "study report": ("study", "report", "{inputs}/study", "-o", "{disk}/report"),
    "study bundle": ("study", "bundle", "{inputs}/study", "-o", "{disk}/study.tar"),
    "curves": ("runs", "curves", "{disk}/run", "--report-to", "visualdl"),
}
COPIED = {"eval": "run", "curves": "run", "history build": "nights", "history note": "nights"}


# What says when, or by which process: a cell's attempts and what they said, a note, curves.
_OF_A_MOMENT = re.compile(r"study/(state|logs)/|notes\.jsonl$|/live/")


def made(disk: Path) -> dict[str, object]:
    """Everything that must come out the same, by path."""
    return {path: found for path, found in bits(disk).items() if not _OF_A_MOMENT.search(path)}


def used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def empty(disk: Path, name: str, inputs: Path) -> None:
    """The disk as the command finds it."""
    resize(disk, 1 << 30)
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if folder := COPIED.get(name):
        shutil.copytree(inputs / folder, disk / folder)


def fill(name: str, inputs: Path, disk: Path, warm: Warm) -> int:
    """How many times the disk was too small; AssertionError where the promise is broken."""
    arguments = [word.format(inputs=inputs, disk=disk) for word in COMMANDS[name]]
    empty(disk, name, inputs)
    before = used(disk)
    done = warm.run(*arguments)
    assert done.returncode == 0, done.stderr
    whole, after, full = made(disk), used(disk), 0
    for step in range(STEPS):
        empty(disk, name, inputs)
        resize(disk, before + max(4096, (after - before) * step // STEPS))
        ended = warm.run(*arguments)
        said = f"{name} with {step} of {STEPS} parts of its space: {ended.stderr}"
        assert ended.returncode in (0, 5) and "Traceback" not in ended.stderr, said
        if ended.returncode:
            full += 1
            assert not [*disk.rglob(".*.tmp")], said
            last = ended.stderr.strip().splitlines()[-1]
            assert last.startswith("harness: error: ") and str(disk) in last, said
            # Packing asks for its space before it writes.
            assert "No space left" in last or "are free" in last, said
        resize(disk, 1 << 30)
        again = warm.run(*arguments)
        assert again.returncode == 0, f"{said}\nthen {again.stderr}"
        assert made(disk) == whole, f"{said}\nthen other files"
    empty(disk, name, inputs)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert_one_line_error(warm.run(*arguments), 5, f"cannot write {disk}", "Read-only file system")
    return full


def main() -> None:
    name, inputs, disk = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", disk], check=True)
    with cases.server(Path(os.environ["TMPDIR"])) as warm:
        print(fill(name, inputs, disk, warm))


if __name__ == "__main__":
    main()

"""One save of a small checkpoint, as training does it; also a program, for strace."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from harness.runs import checkpoints

DIGEST, SEED = "c" * 64, 1234


def checkpoint(step: int) -> checkpoints.Checkpoint:
    """Small arrays that depend on `step`."""
    draw = np.random.Generator(np.random.Philox(step))
    parts = {
        part: {f"{name}.weight": draw.standard_normal((7, 5), dtype=np.float32)
               for name in ("a", "b")}
        for part in checkpoints.PARTS
    }
    return checkpoints.Checkpoint(step, parts, {"loss_scale": None})


def save(folder: Path, step: int, *, keep: int = 2) -> None:
    """Save `checkpoint(step)` under `folder` and drop the oldest ones."""
    checkpoints.save(folder / f"{step:08d}", checkpoint(step), config_digest=DIGEST, seed=SEED)
    checkpoints.prune(folder, steps(folder), keep=keep)


def steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def newest(folder: Path, warnings: list[str] | None = None) -> checkpoints.Checkpoint | None:
    """The newest valid checkpoint; warnings are collected."""
    warn = (warnings if warnings is not None else []).append
    return checkpoints.newest_valid(
        folder, steps(folder), config_digest=DIGEST, seed=SEED, warn=warn
    )


def same(a: checkpoints.Checkpoint, b: checkpoints.Checkpoint) -> bool:
    """Equal to the bit."""
    return (a.step, a.state) == (b.step, b.state) and all(
        checkpoints.tensors_digest(a.parts[part]) == checkpoints.tensors_digest(b.parts[part])
        for part in checkpoints.PARTS
    )


if __name__ == "__main__":
    sys.stdout.write("begin\n")  # strace counts from here
    sys.stdout.flush()
    save(Path(sys.argv[1]), int(sys.argv[2]))

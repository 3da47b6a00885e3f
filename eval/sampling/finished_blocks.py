"""An evaluation's finished blocks on disk, so that one that was killed goes on where it stopped.

Block b holds samples b*rows .. of the evaluation: their features, the classifier's reading, and
the images of the first few for the grid. A block is written whole or not at all; which block a
sample is in never depends on what was interrupted when. The seconds that it took are in a file
beside it: the block's bytes are the same whenever and however often it is made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval import protocols
from harness import files
from harness.base.errors import DataError, UsageError
from harness.base.progress import say

STAGES = ("network", "vae", "features", "writing")
_KEYS = ("features", "labels", "clip", "shown")


@dataclass
class Block:
    """features float32 [n, d]; labels int64 [n] (-1: none read); clip float64 [n] (NaN: not
    scored); shown uint8 [k, H, W, 3]; seconds float64 [4], by STAGES; also: float32 [n, d] by
    further network."""

    features: np.ndarray
    labels: np.ndarray
    clip: np.ndarray
    shown: np.ndarray
    seconds: np.ndarray
    also: dict[str, np.ndarray] = field(default_factory=dict)


class Blocks:
    """The blocks of one evaluation of `n_samples`, in `folder`, `rows` samples each."""

    def __init__(
        self, folder: Path, owner: dict[str, Any], *, n_samples: int, rows: int,
        also: Sequence[str] = (),
    ):
        """`also`: the further networks whose features each block holds.

        Blocks in `folder` that belong to another `owner` (JSON values) are removed: they are
        parts of an evaluation that was never finished and can no longer be."""
        self.folder, self.n_samples, self.rows = folder, n_samples, rows
        self._also = {name: f"features_{name}" for name in also}
        note = folder / "owner.json"
        self.owner = owner = {**owner, "rows": rows}
        if folder.exists() and not _same(note, owner):
            if (folder.parent / "result.json").exists():
                raise UsageError(
                    f"{folder} holds the samples of an evaluation that was made otherwise",
                    remedy="remove the directory that it is in to evaluate again",
                )
            say(f"{folder}: unfinished blocks of another evaluation are removed")
            shutil.rmtree(folder)
        if not note.exists():
            files.atomic_write_json(note, owner)

    def __len__(self) -> int:
        return -(-self.n_samples // self.rows)

    def span(self, block: int) -> tuple[int, int]:
        """First sample of `block` and the one after its last."""
        first = block * self.rows
        return first, min(first + self.rows, self.n_samples)

    def take_over(self, folder: Path) -> None:
        """Link the whole blocks in `folder` if they are of this evaluation but for its N.

        What a block holds does not depend on how many there are. A link that cannot be made is
        left: the block will be made.
        """
        with contextlib.suppress(DataError, KeyError, TypeError, AttributeError):
            note = files.read_json(folder / "owner.json")
            if folder == self.folder or _but_n(note) != _but_n(self.owner):
                return
            common = min(note["protocol"]["n_samples"], self.n_samples) // self.rows
            for block in range(common):
                for path in (self._clock(block), self.path(block)):
                    with contextlib.suppress(OSError):
                        os.link(folder / path.name, path)

    def path(self, block: int) -> Path:
        return self.folder / f"{block:05d}.npz"

    def _clock(self, block: int) -> Path:
        return self.folder / f"{block:05d}.seconds.json"

    def save(self, block: int, content: Block) -> None:
        # Before the block, which counts once it is there.
        files.atomic_write_json(self._clock(block), content.seconds.tolist())
        with files.atomic_path(self.path(block)) as temporary, open(temporary, "wb") as file:
            arrays = {key: getattr(content, key) for key in _KEYS}
            np.savez(file, **arrays, **{self._also[n]: a for n, a in content.also.items()})

    def load(self, block: int) -> Block | None:
        """The finished block, or None if it is missing or (with a warning) not sound."""
        if not self.path(block).exists():
            return None
        first, last = self.span(block)
        try:
            arrays = files.load_npz(self.path(block), (*_KEYS, *self._also.values()))
            also = {name: arrays.pop(key) for name, key in self._also.items()}
            found = Block(**arrays, seconds=self._seconds(block), also=also)
            every = (found.features, *also.values())
            if {len(a) for a in (*every, found.labels, found.clip)} != {last - first}:
                raise DataError(f"{self.path(block)} does not hold {last - first} samples")
            if not all(np.isfinite(array).all() for array in every):
                raise DataError(f"{self.path(block)} holds NaN or infinity")
        except DataError as error:
            say(f"warning: made again: {error}")
            return None
        return found

    def _seconds(self, block: int) -> np.ndarray:
        """What the block took; zeros where that is lost, for no figure depends on it."""
        with contextlib.suppress(DataError, ValueError, TypeError):
            if self._clock(block).exists():
                seconds = np.array(files.read_json(self._clock(block)), np.float64)
            else:  # once kept in the block
                seconds = files.load_npz(self.path(block), ("seconds",))["seconds"]
            if seconds.shape == (len(STAGES),) and np.isfinite(seconds).all():
                return seconds
        return np.zeros(len(STAGES))

    def all(self, count: int | None = None) -> Iterator[Block]:
        """Every block (or the first `count`) in order; DataError if one is missing."""
        for block in range(len(self) if count is None else count):
            found = self.load(block)
            if found is None:
                raise DataError(f"{self.path(block)} is missing", remedy="evaluate again")
            yield found


def kept(
    folder: Path, owner: dict[str, Any], *, n_samples: int, rows: int, also: Sequence[str] = ()
) -> Blocks | None:
    """The blocks of a finished evaluation; None if one is gone, or they are another's."""
    if not _same(folder / "owner.json", {**owner, "rows": rows}):
        return None
    blocks = Blocks(folder, owner, n_samples=n_samples, rows=rows, also=also)
    return blocks if all(blocks.load(block) for block in range(len(blocks))) else None


def stored(folder: Path) -> Blocks:
    """The blocks in `folder` as they are there, whoever made them; DataError if there are none."""
    owner = files.read_json(folder / "owner.json")
    try:
        n_samples, rows = owner["protocol"]["n_samples"], owner["rows"]
        sound = type(n_samples) is int and type(rows) is int and n_samples > 0 and rows > 0
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise DataError(f"{folder}/owner.json does not say whose blocks these are")
    del owner["rows"]
    return Blocks(folder, owner, n_samples=n_samples, rows=rows)


def shown(folder: Path, count: int) -> np.ndarray:
    """The first `count` images (fewer where fewer are kept), uint8 [k, H, W, 3]."""
    blocks, found = stored(folder), []
    for block in blocks.all():
        found.append(block.shown)
        if sum(map(len, found)) >= count or not len(block.shown):
            break
    return np.concatenate(found)[:count]


def _but_n(owner: dict[str, Any]) -> dict[str, Any]:
    return {**owner, "protocol": protocols.without_n(owner["protocol"])}


def _same(note: Path, owner: dict[str, Any]) -> bool:
    try:
        return not protocols.differences(files.read_json(note), owner)
    except (DataError, AttributeError):
        return False

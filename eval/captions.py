"""Which captions an evaluation samples for: one random caption each of as many val images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import data, files
from harness.base import seeds
from harness.base.errors import DataError

SHOWN = 8  # images that are set side by side


@dataclass(frozen=True)
class CaptionList:
    """Sample j is for caption `pairs[j, 1]` of val image `pairs[j, 0]`.

    `texts` and `labels` (the digit asked for) are there where captions.jsonl says them.
    """

    split: data.Split
    empty_context: np.ndarray  # float32 [T, D]
    pairs: np.ndarray  # int64 [N, 2]
    seed: int
    texts: list[str] | None
    labels: np.ndarray | None  # int64 [N]

    def __len__(self) -> int:
        return len(self.pairs)

    def contexts(self, first: int, last: int) -> np.ndarray:
        """Text features of samples first..last-1, float32 [n, T, D]."""
        return np.stack([self.split.context(int(i), int(k)) for i, k in self.pairs[first:last]])

    def first_prompts(self) -> list[str]:
        """What the first few samples are of, for people who look at them side by side."""
        texts = self.texts or [f"sample {j}" for j in range(len(self))]
        return texts[:SHOWN]

    def digest(self) -> str:
        """SHA-256 of the list of (image, caption) in order."""
        return files.json_digest(self.pairs.tolist())

    def describe(self) -> dict[str, Any]:
        """What a protocol says of it."""
        found = {"split": "val", "seed": self.seed, "sha256": self.digest()}
        if self.split.context_dtype != "float32":  # rounded: other figures
            found["context_dtype"] = self.split.context_dtype
        return found


def choose(
    directory: Path | str, n_samples: int, seed: int, *, moments_shape: tuple[int, int, int],
    context_shape: tuple[int, int],
) -> CaptionList:
    """The captions of an evaluation over the val split in `directory`.

    The images are a random order without repetition (drawn anew when there are fewer images than
    samples), the caption of sample j is drawn for j alone, so the first 10,000 of 30,000 are the
    list of 10,000. Errors as in `harness.data`.
    """
    split = data.open_split(
        Path(directory), "val", moments_shape=moments_shape, context_shape=context_shape
    )
    rounds = -(-n_samples // len(split))
    order = np.concatenate(
        [seeds.generator(seed, "eval-images", r).permutation(len(split)) for r in range(rounds)]
    )[:n_samples]
    chosen = [
        int(seeds.generator(seed, "eval-caption", j).integers(split.captions[image]))
        for j, image in enumerate(order)
    ]
    pairs = np.stack([order.astype(np.int64), np.array(chosen, np.int64)], axis=1)
    texts, labels = _said(split.directory / "captions.jsonl", pairs)
    empty = data.empty_context(Path(directory), context_shape)
    return CaptionList(split, empty, pairs, seed, texts, labels)


def _said(path: Path, pairs: np.ndarray) -> tuple[list[str] | None, np.ndarray | None]:
    """Texts and labels of `pairs` from captions.jsonl: {"image", "caption", "text", "label"}."""
    if not path.is_file():
        return None, None
    known: dict[tuple[int, int], dict[str, Any]] = {}
    for number, line in enumerate(files.read_bytes(path, limit=1 << 30).splitlines(), 1):
        try:
            entry = json.loads(line)
            known[int(entry["image"]), int(entry["caption"])] = entry
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise DataError(f"{path} line {number} is not a caption: {error!r}") from error
    entries = []
    for image, caption in pairs.tolist():
        if (image, caption) not in known:
            raise DataError(f"{path} does not say caption {caption} of image {image}")
        entries.append(known[image, caption])
    texts = [str(e["text"]) for e in entries] if all("text" in e for e in entries) else None
    has_labels = all(
        type(label := e.get("label")) is int and abs(label) < 2**63 for e in entries)
    return texts, np.array([e["label"] for e in entries], np.int64) if has_labels else None

"""`harness data pack`: the plain form -> few large files (see harness.data.packed_reading).

Resumable by shard: a shard is renamed into place when it is whole, with its
checksums beside it, and the packed directory appears under its own name only
when everything is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import files, runs
from harness.base.ahead import ahead
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.base.progress import Progress
from harness.data import digests, features, identity, packed_reading
from harness.data.splits import open_split

SHARD_BYTES = 4 << 30
_BLOCK = 64  # rows read at once
_MOST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Packing:
    """What is packed where, and how."""

    source: Path
    target: Path
    moments_shape: tuple[int, ...]
    context_shape: tuple[int, ...]
    context_dtype: str
    shard_bytes: int


def pack(source: Path, target: Path, *, context_dtype: str = "float32",
         shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Pack the plain features in `source` into `target`; returns the manifest.

    Everything else in `source` (empty_context, run_vis, captions.jsonl, the frozen
    models) is copied. With float16 the contexts are rounded: other data, another
    digest. UsageError if `target` exists, DataError for the first file that is not
    sound, EnvironmentFault for lack of space.
    """
    source, target = Path(source), Path(target)
    _refuse(source, target, context_dtype)
    work = target.with_name(f".{target.name}.packing")
    moments_shape, context_shape = shapes(source)
    with runs.locked(work):
        plan = Packing(source, work, moments_shape, context_shape, context_dtype, shard_bytes)
        splits = [name for name in ("train", "val") if (source / name).is_dir()]
        opened = {
            name: open_split(source, name, moments_shape=moments_shape,
                                      context_shape=context_shape)
            for name in splits
        }
        _same_work(plan, opened)
        _enough_space(plan, opened)
        entries = {name: _pack_split(plan, name, split) for name, split in opened.items()}
        manifest = _finish(plan, entries)
        os.sync()  # one for all: an fsync for each of thousands of copied files would take hours
        (work / "lock").unlink()
        with files.writing(target):
            os.rename(work, target)
            files.fsync_directory(target.parent)
    return manifest


def _refuse(source: Path, target: Path, context_dtype: str) -> None:
    if context_dtype not in ("float32", "float16"):
        raise UsageError(f"context dtype {context_dtype!r} is neither float32 nor float16")
    if packed_reading.is_packed(source):
        raise UsageError(f"{source} is packed already")
    if target.exists():
        raise UsageError(f"{target} exists", remedy="give another -o; nothing there was touched")
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target} is inside {source}", remedy="give another -o")


def shapes(source: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of moments and contexts, read off 0.npy and empty_context.npy."""
    first = next((s for s in ("train", "val") if (source / s).is_dir()), "train")
    if not (source / first).is_dir():
        raise EnvironmentFault(f"{source} has neither train/ nor val/")
    moments = files.load_npy(source / first / "0.npy", dtype="float32")
    context = files.load_npy(source / "empty_context.npy", dtype="float32")
    if moments.ndim != 3 or moments.shape[0] % 2 or context.ndim != 2:
        raise DataError(
            f"{source}: {first}/0.npy has shape {list(moments.shape)} and empty_context.npy "
            f"{list(context.shape)}, expected [2C, h, w] and [T, D]"
        )
    return moments.shape, context.shape


def _same_work(plan: Packing, opened: dict[str, features.Split]) -> None:
    """Go on with shards that an interrupted run left, unless they are of something else."""
    said = {
        "source": str(plan.source.resolve()), "context_dtype": plan.context_dtype,
        "shard_bytes": plan.shard_bytes,
        "listing": identity.listing(plan.source) if "train" in opened else None,
        "counts": {name: [len(s), sum(s.captions)] for name, s in opened.items()},
    }
    note = plan.target / "packing.json"
    if note.is_file() and files.read_json(note) == said:
        for half_written in plan.target.glob("*/.*.tmp"):
            half_written.unlink()
        return
    for child in plan.target.iterdir():
        if child.name != "lock":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    files.atomic_write_json(note, said)


def _enough_space(plan: Packing, opened: dict[str, features.Split]) -> None:
    rows = sum(len(s) for s in opened.values()), sum(sum(s.captions) for s in opened.values())
    need = rows[0] * 4 * int(np.prod(plan.moments_shape)) + rows[1] * int(
        np.prod(plan.context_shape)
    ) * np.dtype(plan.context_dtype).itemsize
    there = sum(p.stat().st_size for p in plan.target.rglob("*.npy"))
    free = shutil.disk_usage(plan.target).free
    if need - there > free:
        raise EnvironmentFault(
            f"packing needs {(need - there) / 1e9:.1f} GB at {plan.target.parent}, "
            f"{free / 1e9:.1f} GB are free",
            remedy="choose another disk, or --context float16 (about half the size)",
        )


def _pack_split(plan: Packing, name: str, split: features.Split) -> dict[str, Any]:
    folder = plan.target / name
    folder.mkdir(exist_ok=True)
    counts = np.array(split.captions, "<i4")
    owners = np.repeat(np.arange(len(split)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)

    def context(row: int, out: np.ndarray) -> None:
        split.read_context(int(owners[row]), int(numbers[row]), out)

    contexts = plan.context_dtype
    dtypes = ("<f4", "<f4" if contexts == "float32" else "<f2")
    entry: dict[str, Any] = {"images": len(split), "captions": len(owners)}
    tables, source_tables = [], []
    for kind, dtype, shape, rows, read in zip(
        packed_reading.KINDS, dtypes, (plan.moments_shape, plan.context_shape),
        (len(split), len(owners)), (split.read_moments, context), strict=True,
    ):
        per_shard = max(1, plan.shard_bytes // (int(np.prod(shape)) * np.dtype(dtype).itemsize))
        stored, before = _pack_rows(folder, kind, dtype, shape, rows, per_shard, read,
                                    f"pack {name} {kind}")
        entry[f"{kind}_per_shard"] = per_shard
        _save(folder / f"{kind}-xxh3.npy", stored)
        tables.append(stored)
        source_tables.append(before)
    _save(folder / "captions.npy", counts)
    of = plan.moments_shape, plan.context_shape
    entry["digest"] = digests.split_digest(*of, contexts, counts, *tables)
    entry["source_digest"] = digests.split_digest(*of, "float32", counts, *source_tables)
    return entry


Read = Callable[[int, np.ndarray], None]


def _pack_rows(
    folder: Path, kind: str, dtype: str, shape: tuple[int, ...], rows: int, per_shard: int,
    read: Read, label: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Write all shards of a kind; checksums (uint8 [rows, 16]) of rows as stored and as read."""
    tables = []
    with Progress(rows, label, unit="row") as progress:
        for first in range(0, rows, per_shard):
            path = folder / packed_reading.shard_name(kind, first // per_shard)
            beside = path.with_name(f".{path.stem}-xxh3.npy")
            count = min(per_shard, rows - first)
            if not (path.is_file() and beside.is_file()):
                table = _pack_shard(path, dtype, shape, range(first, first + count), read, progress)
                _save(beside, table)
            else:
                progress.advance(count)
            tables.append(files.load_npy(beside, dtype="uint8", shape=(count, 2, 16)))
    whole = np.concatenate(tables)
    return np.ascontiguousarray(whole[:, 0]), np.ascontiguousarray(whole[:, 1])


def _pack_shard(path: Path, dtype: str, shape: tuple[int, ...], numbers: range, read: Read,
                progress: Progress) -> np.ndarray:
    """One shard; uint8 [rows, 2, 16]: checksum of each row as stored, and as read."""
    table = np.empty((len(numbers), 2, 16), np.uint8)
    blocks = [numbers[at : at + _BLOCK] for at in range(0, len(numbers), _BLOCK)]
    done = 0
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(features.npy_header(dtype, (len(numbers), *shape)))
        for values, sums in ahead(lambda block: _read_block(block, dtype, shape, read), blocks):
            file.write(values)
            table[done : done + len(sums)] = sums
            done += len(sums)
            progress.advance(len(sums))
    return table


def _read_block(block: range, dtype: str, shape: tuple[int, ...],
                read: Read) -> tuple[np.ndarray, np.ndarray]:
    values = np.empty((len(block), *shape), "<f4")
    sums = np.empty((len(block), 2, 16), np.uint8)
    for row, number in enumerate(block):
        read(number, values[row])
    stored = values if dtype == "<f4" else _half(values, block)
    for row in range(len(block)):
        sums[row, 0] = np.frombuffer(digests.row_checksum(stored[row]), np.uint8)
        sums[row, 1] = np.frombuffer(digests.row_checksum(values[row]), np.uint8)
    return stored, sums


def _half(values: np.ndarray, block: range) -> np.ndarray:
    if np.abs(values).max() > _MOST_FLOAT16:
        raise DataError(
            f"contexts {block.start} to {block.stop - 1} hold values beyond float16's largest",
            remedy="pack with --context float32",
        )
    return values.astype("<f2")


def _finish(plan: Packing, entries: dict[str, Any]) -> dict[str, Any]:
    """Copy what is not feature files, write packed_reading.json, drop the leftovers of packing."""
    copied = {"packing.json", "lock", identity.RECORD, packed_reading.MANIFEST}
    with files.writing(plan.target):
        for child in sorted(plan.source.iterdir()):
            if child.name in entries:
                _copy_texts(child, plan.target / child.name)
            elif child.name not in copied and not child.name.startswith("."):
                copy = shutil.copytree if child.is_dir() else shutil.copy2
                destination = plan.target / child.name
                shutil.rmtree(destination, ignore_errors=True)
                copy(child, destination)
    empty = features.empty_context(plan.source, plan.context_shape)
    whole = {
        key: digests.data_digest(entries["train"][of], empty) if "train" in entries else None
        for key, of in (("digest", "digest"), ("source_digest", "source_digest"))
    }
    manifest = {
        "schema": packed_reading.SCHEMA, "context_dtype": plan.context_dtype,
        "moments_shape": list(plan.moments_shape), "context_shape": list(plan.context_shape),
        **whole, "splits": entries,
    }
    files.atomic_write_json(plan.target / packed_reading.MANIFEST, manifest)
    for leftover in [*plan.target.glob("*/.*-xxh3.npy"), plan.target / "packing.json"]:
        leftover.unlink(missing_ok=True)
    return manifest


def _copy_texts(source: Path, target: Path) -> None:
    """Copy what lies beside a split's features (captions.jsonl)."""
    for child in source.iterdir():
        if child.suffix != ".npy" and child.is_file() and not child.name.startswith("."):
            shutil.copy2(child, target / child.name)


def _save(path: Path, values: np.ndarray) -> None:
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values)

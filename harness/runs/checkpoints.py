"""Checkpoints: written whole or not at all, checked before they are read.

A checkpoint is a directory of safetensors files, `state.json` and
`manifest.json`. It is written under a temporary name, every file fsynced, then
renamed, then the parent fsynced; so a directory with a checkpoint's name is
complete. The manifest has the SHA-256 of each file, because a flipped bit in a
safetensors payload loads silently. Steps with a broken checkpoint are passed
over with a warning that says what was wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError, NewerFile
from harness.files import tensor_files

SCHEMA = 1
PARTS = ("model", "ema", "optimizer")
# Enough for all files at once; hashing takes the processor, writing mostly waits.
_HASHERS = 3
_WINDOW = 8 << 20  # bytes written before the disk is told to begin with them


@dataclass
class Checkpoint:
    """`parts[part][name]` numpy arrays, `state` plain JSON values, at `step`."""

    step: int
    parts: dict[str, dict[str, np.ndarray]]
    state: dict[str, Any]


def save(
    directory: Path, checkpoint: Checkpoint, *, config_digest: str, seed: int,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `checkpoint` as `directory` (checkpoints/00005000); returns its manifest.

    `config`: the resolved config, kept so that a later change in run.json can be named.
    EnvironmentFault on a full disk or an I/O error; earlier checkpoints stay whole.
    """
    with files.writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory.parent)
        temporary = directory.parent / f".{directory.name}.{os.getpid()}.tmp"
        os.mkdir(temporary)
        try:
            manifest = _write_parts(temporary, checkpoint)
            manifest |= {"schema": SCHEMA, "step": checkpoint.step, "config_digest": config_digest,
                         "seed": seed, "config": config}
            manifest["self"] = _self_digest(manifest)
            _write_synced(temporary / "manifest.json", [files.canonical_json(manifest)])
            files.fsync_directory(temporary)
            if directory.exists():  # only a broken one is ever written again
                os.rename(directory, directory.parent / f".{directory.name}.{os.getpid()}.old.tmp")
            os.rename(temporary, directory)
        except BaseException:
            _discard(temporary)
            raise
        files.fsync_directory(directory.parent)
        remove_leftovers(directory.parent)
    return manifest


def load(
    directory: Path, *, config_digest: str | None = None, seed: int | None = None,
    parts: tuple[str, ...] = PARTS,
) -> Checkpoint:
    """Read a checkpoint after checking every file against the manifest.

    `parts`: which of model, ema, optimizer to read (the others are not hashed).
    `config_digest`, `seed`: refuse a checkpoint of another config or seed.
    DataError names the first thing that is wrong.
    """
    manifest = read_manifest(directory)
    if config_digest is not None and manifest["config_digest"] != config_digest:
        theirs = manifest["config_digest"]
        raise DataError(f"{directory} belongs to config {theirs[:8]}, not {config_digest[:8]}")
    if seed is not None and manifest.get("seed") != seed:
        raise DataError(f"{directory} belongs to seed {manifest.get('seed')}, not {seed}")
    state = _state(directory / "state.json", manifest["files"].get("state.json") or "")

    def read(part: str) -> dict[str, np.ndarray]:
        name = f"{part}.safetensors"
        return tensor_files.read(directory / name, sha256=manifest["files"].get(name) or "")

    with _hashers() as pool:
        # The optimizer, the longest, begins first; what is wrong is told of the first in order.
        reading = {part: pool.submit(read, part) for part in reversed(parts)}
        arrays = {part: reading[part].result() for part in parts}
    return Checkpoint(manifest["step"], arrays, state)


def _state(path: Path, sha256: Any) -> dict[str, Any]:
    data = files.read_bytes(path, limit=files.JSON_LIMIT)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path} does not match its SHA-256 in the manifest")
    state = files.parse_json(data, path)
    if not isinstance(state, dict):
        raise DataError(f"{path} is not a JSON object")
    return state


def check(directory: Path, *, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """Verify a checkpoint's manifest and files; returns the manifest, DataError if broken."""
    manifest = read_manifest(directory)
    names = ["state.json", *(f"{part}.safetensors" for part in parts)]
    with _hashers() as pool:
        found = {n: pool.submit(files.sha256_file, directory / n) for n in reversed(names)}
        for name in names:
            if found[name].result() != manifest["files"].get(name):
                raise DataError(f"{directory / name} does not match its SHA-256 in the manifest")
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """A checkpoint's manifest, sound in itself; its files are not read. DataError if it is not."""
    manifest = files.read_json(directory / "manifest.json")
    files.refuse_newer(manifest, SCHEMA, directory / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise DataError(f"{directory}/manifest.json is not a manifest of schema {SCHEMA}")
    hashes = manifest.get("files")
    if not isinstance(hashes, dict) or not isinstance(manifest.get("config_digest"), str):
        raise DataError(f"{directory}/manifest.json is incomplete")
    if manifest.get("self") != _self_digest(manifest):
        raise DataError(f"{directory}/manifest.json does not match its own digest")
    step = manifest.get("step")
    if type(step) is not int or f"{step:08d}" != directory.name:
        raise DataError(f"{directory} holds the checkpoint of step {step}")
    return manifest


def newest_valid(
    folder: Path, steps: list[int], *, config_digest: str, warn: Callable[[str], None],
    seed: int | None = None,
) -> Checkpoint | None:
    """The newest checkpoint under `folder` that is whole, or None; `warn` hears of broken ones.

    NewerFile if a newer harness wrote one: going on from before it would replace it.
    """
    for step in sorted(steps, reverse=True):
        try:
            return load(folder / f"{step:08d}", config_digest=config_digest, seed=seed)
        except NewerFile:
            raise
        except DataError as error:
            warn(f"warning: checkpoint of step {step} is passed over: {error}")
    return None


def prune(
    folder: Path, steps: list[int], *, keep: int, every: int = 1, last: int = 0,
    first: int | None = None,
) -> None:
    """Remove all but the newest `keep` checkpoints, and that of step `first`: imported weights.

    A checkpoint that is no multiple of `every` and not the `last` step's was saved by an
    interruption: it does not count and goes when a newer one is there, so that an
    interrupted run ends with the same checkpoints as one left alone.
    """
    newest = max(steps, default=0)
    planned = [s for s in sorted(steps) if (s % every == 0 or s == last) and s != first]
    kept = {newest, first, *planned[-keep:]}
    with files.writing(folder):
        for step in set(steps) - kept:
            # Renamed first: a kill in the middle leaves no half checkpoint under a real name.
            doomed = folder / f".{step:08d}.{os.getpid()}.old.tmp"
            os.rename(folder / f"{step:08d}", doomed)
            _discard(doomed)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed saves left behind. Only the holder of the run's lock may call this."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir() and not path.is_symlink():
            _discard(path)


def _discard(path: Path) -> None:
    # What cannot be removed now goes with the next save; it harms nobody.
    with contextlib.suppress(OSError):
        shutil.rmtree(path, ignore_errors=True)


def tensors_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of the safetensors file that a checkpoint keeps `arrays` in."""
    return _sha256(tensor_files.chunks(arrays))


def _self_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest without this entry: a changed step or digest is found too."""
    rest = {key: value for key, value in manifest.items() if key != "self"}
    return files.json_digest(rest)


def _hashers() -> ThreadPoolExecutor:
    """Threads to hash with, which is most of the work in a checkpoint and lets go of Python."""
    count = min(_HASHERS, len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(count, thread_name_prefix="hash")


def _write_parts(directory: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Write the files in order; the manifest's `files` and digests, hashed meanwhile."""
    contents: dict[str, Sequence[Any]] = {
        f"{part}.safetensors": list(tensor_files.chunks(arrays))
        for part, arrays in checkpoint.parts.items()
    }
    contents["state.json"] = [files.canonical_json(checkpoint.state)]
    with _hashers() as pool:
        # The largest file begins first, so that no thread is left with it at the end.
        sizes = {name: sum(map(len, chunks)) for name, chunks in contents.items()}
        hashes = {
            name: pool.submit(_sha256, contents[name])
            for name in sorted(contents, key=sizes.__getitem__, reverse=True)
        }
        for name, chunks in contents.items():
            _write_synced(directory / name, chunks)
        found = {name: hashing.result() for name, hashing in hashes.items()}
    digests = {"weights_digest": "model.safetensors", "ema_digest": "ema.safetensors"}
    return {"files": found} | {key: found[name] for key, name in digests.items() if name in found}


def _sha256(chunks: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _write_synced(path: Path, chunks: Sequence[Any]) -> None:
    """Write a new file and fsync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        begun = written = 0
        for chunk in chunks:
            view = memoryview(chunk)
            while len(view):
                count = os.write(descriptor, view[:_WINDOW])
                view = view[count:]
                written += count
                if written - begun >= _WINDOW:
                    # Linux begins to write what is not needed any more; fsync then finds little.
                    os.posix_fadvise(descriptor, begun, written - begun, os.POSIX_FADV_DONTNEED)
                    begun = written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

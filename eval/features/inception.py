"""Inception features, from a process of their own (`inception_worker`). No torch here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from eval.features import image_files
from eval.features.inception_weights import find_weights, is_official
from harness import files
from harness.base.errors import DataError, EnvironmentFault, HarnessError

SIZE = 2048
BATCH_SIZE = 50
FILES_PER_BLOCK = 4 * BATCH_SIZE


class InceptionFeatures:
    """pool3 features of pytorch-fid's InceptionV3. A context manager: it owns the process.

    `sha256` is that of the weights; `official` whether it is the published file's. Other weights
    give other distances, so those are not called FID (`metric`).
    """

    size = SIZE
    concurrent = True  # another process: extract() may run beside sampling

    def __init__(self, weights: Path | str | None = None, *, batch_size: int = BATCH_SIZE):
        self.weights = find_weights(weights)
        self.sha256 = files.sha256_file(self.weights)
        self.official = is_official(self.sha256)
        self.batch_size = batch_size
        self.device: str | None = None
        self._process: subprocess.Popen[str] | None = None

    @property
    def metric(self) -> str:
        return "fid" if self.official else "fid_unofficial_weights"

    def describe(self) -> dict[str, Any]:
        """What a protocol says of the features."""
        return {
            "network": "pytorch-fid InceptionV3 pool3", "size": self.size, "sha256": self.sha256,
            "official": self.official,
        }

    def __enter__(self) -> InceptionFeatures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                _pipe(process.stdin).close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()

    def extract(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, 3] -> float32 [n, 2048]."""
        with tempfile.TemporaryDirectory(prefix="inception-") as folder:
            np.save(Path(folder) / "images.npy", np.ascontiguousarray(images, np.uint8))
            out = Path(folder) / "features.npy"
            self._ask({"images": f"{folder}/images.npy", "out": str(out)})
            return files.load_npy(out, dtype="float32", shape=(len(images), SIZE))

    def extract_files(
        self, paths: list[Path], folder: Path, *, preparation: str = "none",
        on_block: Callable[[int], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Features of image files, float32 [n, 2048] a block, kept in `folder` as they are made.

        Called again after an interruption with the same files it reads what is there and goes
        on; anything else in `folder` is DataError.
        """
        claim(folder, {
            "schema": 2, "preparation": preparation, "weights": self.sha256,
            "files": _listing_digest(paths), "batch_size": self.batch_size,
        })
        for first in range(0, len(paths), FILES_PER_BLOCK):
            chunk = paths[first : first + FILES_PER_BLOCK]
            out = folder / f"{first // FILES_PER_BLOCK:05d}.npy"
            if not out.exists():
                self._ask({
                    "files": [str(path.resolve()) for path in chunk], "preparation": preparation,
                    "out": str(out.resolve()),
                })
            if on_block:
                on_block(len(chunk))
            yield files.load_npy(out, dtype="float32", shape=(len(chunk), SIZE))

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        process = self._start()
        try:
            stdin = _pipe(process.stdin)
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()
        except OSError as error:
            raise self._died() from error
        return self._read(process)

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [
                sys.executable, "-m", "eval.features.inception_worker", str(self.weights.resolve()),
                str(self.batch_size),
            ]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=os.environ | _own_gpu() | {
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path))
                },
            )
            try:
                self.device = self._read(self._process)["device"]
            except BaseException:
                self.close()
                raise
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        line = _pipe(process.stdout).readline()
        if not line.endswith("\n"):
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise _error(answer)
        return answer

    def _died(self) -> EnvironmentFault:
        process = self._process
        code = process.wait() if process is not None else None
        remedy = "see its messages above"
        if code in (-9, 137):
            remedy = "it was killed, most likely for memory: close other programs"
        return EnvironmentFault(f"the Inception process ended with code {code}", remedy=remedy)


def _own_gpu() -> dict[str, str]:
    """The GPU that paddle's launcher has given this worker, as torch is told of it.

    FLAGS_selected_gpus counts among the visible ones; torch takes the first of these.
    """
    selected = os.environ.get("FLAGS_selected_gpus", "")
    if not selected.isdigit():
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[int(selected)] if visible else selected}


def claim(folder: Path, owner: dict[str, Any]) -> None:
    """Make `folder` the place for blocks of `owner` (JSON values), or find that it is already.

    DataError if it holds something else: nothing is overwritten.
    """
    note = folder / "owner.json"
    if note.exists():
        found = files.read_json(note)
        if found != owner:
            known = found if isinstance(found, dict) else {}
            keys = sorted(key for key in owner if known.get(key) != owner[key])
            raise DataError(
                f"{folder} holds features that were made otherwise ({', '.join(keys)})",
                remedy="give another folder, or remove that one",
            )
        return
    if folder.exists() and any(p for p in folder.iterdir() if not p.name.startswith(".")):
        raise DataError(f"{folder} is not empty and not ours", remedy="give another folder")
    files.atomic_write_json(note, owner)


def _listing_digest(paths: list[Path]) -> str:
    """SHA-256 over names, sizes and times of the files: another set is another digest."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        digest.update(os.fsencode(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
    return digest.hexdigest()


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None, "the worker is started with pipes"
    return end


def _error(answer: dict[str, Any]) -> HarnessError:
    kind = DataError if answer.get("code") == DataError.exit_code else EnvironmentFault
    return kind(answer["error"], remedy=answer.get("remedy"))


def features_of_folder(
    network: InceptionFeatures, folder: Path, *, preparation: str = "none",
    keep: Path | None = None, progress: Callable[[int], Any] | None = None,
) -> Iterator[np.ndarray]:
    """Features of every image in `folder`, block by block; in `keep` if given, so resumable."""
    paths = image_files.listing(folder)
    with contextlib.ExitStack() as stack:
        if keep is None:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="features-"))
            keep = Path(temporary) / "blocks"
        context = progress(len(paths)) if progress else None
        shown = stack.enter_context(context) if context else None
        advance = shown.advance if shown else None
        yield from network.extract_files(paths, keep, preparation=preparation, on_block=advance)

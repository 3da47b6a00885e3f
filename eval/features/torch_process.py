"""Features of a network that torch runs, in a process of its own: `torch_worker`. No torch here."""

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
from typing import IO, Any, TypeVar

import numpy as np

from harness import files
from harness.base.errors import DataError, EnvironmentFault, HarnessError

BATCHES_PER_BLOCK = 4
_Own = TypeVar("_Own", bound="TorchFeatures")


class TorchFeatures:
    """Features of one network. A context manager: it owns the process.

    `weights` is what `torch_worker` loads as the network `name`, `sha256` that of the weights,
    `size` how many features an image has, `batch_size` how many images go through it at once.
    `told`: what else kept features depend on (JSON values).
    """

    official: bool  # whether the weights are the published ones
    concurrent = True  # another process: extract() may run beside sampling

    def __init__(
        self, name: str, weights: Path, *, sha256: str, size: int, batch_size: int,
        told: dict[str, Any] | None = None,
    ):
        self.name, self.weights, self.sha256 = name, weights, sha256
        self.size, self.batch_size = size, batch_size
        self.device: str | None = None
        self._told = told or {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def metric(self) -> str:
        """Name of the Frechet distance over these features."""
        return f"fd_{self.name}" if self.official else f"fd_{self.name}_unofficial_weights"

    def describe(self) -> dict[str, Any]:
        """What a protocol says of the features."""
        raise NotImplementedError

    def __enter__(self: _Own) -> _Own:
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
        """uint8 [n, H, W, 3] -> float32 [n, size]."""
        with tempfile.TemporaryDirectory(prefix="images-") as folder:
            np.save(Path(folder) / "images.npy", np.ascontiguousarray(images, np.uint8))
            out = Path(folder) / "features.npy"
            self._ask({"images": f"{folder}/images.npy", "out": str(out)})
            return files.load_npy(out, dtype="float32", shape=(len(images), self.size))

    def extract_files(
        self, paths: list[Path], folder: Path, *, preparation: str = "none",
        on_block: Callable[[int], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Features of image files, float32 [n, size] a block, kept in `folder` as they are made.

        Called again after an interruption with the same files it reads what is there and goes
        on; anything else in `folder` is DataError.
        """
        claim(folder, {
            "schema": 2, "preparation": preparation, "weights": self.sha256,
            "files": _listing_digest(paths), "batch_size": self.batch_size, **self._told,
        })
        rows = BATCHES_PER_BLOCK * self.batch_size
        for first in range(0, len(paths), rows):
            chunk = paths[first : first + rows]
            out = folder / f"{first // rows:05d}.npy"
            if not out.exists():
                self._ask({
                    "files": [str(path.resolve()) for path in chunk], "preparation": preparation,
                    "out": str(out.resolve()),
                })
            if on_block:
                on_block(len(chunk))
            yield files.load_npy(out, dtype="float32", shape=(len(chunk), self.size))

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
                sys.executable, "-m", "eval.features.torch_worker", self.name,
                str(self.weights.resolve()), str(self.batch_size),
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
        return EnvironmentFault(f"the {self.name} process ended with code {code}", remedy=remedy)


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

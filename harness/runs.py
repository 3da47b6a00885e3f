"""A run's directory: the only module that knows the names inside it.

    runs/small_deep-s1234-3f9a1c2e/
      run.json            schema, resolved config, digest, seed, pinned, fingerprint, git commit
      lock                held with flock while a process works on the run
      metrics.jsonl       what must come out the same tomorrow: step, loss, loss_hex, lr
      timing.jsonl        what depends on the clock: images/s, ms/step, memory
      checkpoints/00005000/
      eval/00005000-ddim50-g2.0-n30000/
      samples/00005000.png
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import configs, files
from harness.errors import DataError, EnvironmentFault, UsageError

SCHEMA = 1
ROOT = Path("runs")


def name(config: configs.Config, seed: int) -> str:
    """A run's directory name: a function of config and seed, so the same command resumes."""
    return f"{config.name}-s{seed}-{configs.digest(config)[:8]}"


@dataclass(frozen=True)
class Run:
    """One run on disk. `info` is the content of run.json."""

    directory: Path
    info: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def seed(self) -> int:
        return int(self.info["seed"])

    @property
    def config(self) -> configs.Config:
        """The config the run was started with; DataError if run.json was changed by hand."""
        config = configs.from_values(self.info["config"], source=str(self.directory))
        if configs.digest(config) != self.info["digest"]:
            raise DataError(
                f"{self.directory}/run.json: the config does not match its digest",
                remedy="the file was changed after the run began; restore it or start another run",
            )
        return config

    @property
    def metrics_file(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def timing_file(self) -> Path:
        return self.directory / "timing.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def evaluations(self) -> Path:
        return self.directory / "eval"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"{step:08d}"

    def evaluation(self, step: int, protocol: str) -> Path:
        """Directory of one evaluation, for instance eval/00005000-coco-ddim50."""
        return self.evaluations / f"{step:08d}-{protocol}"

    def sample_grid(self, step: int) -> Path:
        """PNG of the run_vis prompts at `step`."""
        return self.directory / "samples" / f"{step:08d}.png"

    def checkpoint_steps(self) -> list[int]:
        """Steps of which a checkpoint directory exists (whole or not), ascending."""
        return _numbered(self.checkpoints)

    def sample_steps(self) -> list[int]:
        """Steps of which a sample grid exists, ascending."""
        return _numbered(self.directory / "samples", ".png")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a torn last line is left out."""
        return read_lines(self.metrics_file)

    def timing(self) -> list[dict[str, Any]]:
        """The lines of timing.jsonl; a torn last line is left out."""
        return read_lines(self.timing_file)

    def results(self) -> list[dict[str, Any]]:
        """Every finished evaluation's result.json, by directory name; adds its `directory`."""
        found = []
        if self.evaluations.is_dir():
            for path in sorted(self.evaluations.glob("*/result.json")):
                result = files.read_json(path)
                if not isinstance(result, dict):
                    raise DataError(f"{path} is not a JSON object")
                found.append({**result, "directory": str(path.parent)})
        return found


def load(directory: Path | str) -> Run:
    """Open an existing run. UsageError if there is none, DataError if run.json is not sound."""
    directory = Path(directory)
    path = directory / "run.json"
    if not path.is_file():
        raise UsageError(f"{directory} is not a run: it has no run.json")
    info = files.read_json(path)
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a run of schema {SCHEMA}")
    for key, kind in (("config", dict), ("digest", str), ("seed", int), ("fingerprint", dict)):
        if not isinstance(info.get(key), kind):
            raise DataError(f"{path} has no {key}")
    return Run(directory, info)


def create(
    directory: Path, config: configs.Config, seed: int, *, fingerprint: dict[str, Any],
    data: dict[str, Any], commit: str | None, imported: dict[str, Any] | None = None,
) -> Run:
    """Open the run in `directory` to continue it, or begin it there.

    `imported`: where the weights of its first checkpoint came from, if not from training.
    UsageError if another config or seed began it, naming the keys that differ, or
    if the directory holds something that is not a run.
    """
    if (directory / "run.json").exists():
        run = load(directory)
        _refuse_other(run, config, seed)
        _refuse_other_data(run, data)
        return run
    _refuse_foreign(directory)
    info = {
        "schema": SCHEMA,
        "name": name(config, seed),
        "seed": seed,
        "digest": configs.digest(config),
        "pinned": configs.is_pinned(config),
        "deterministic": config.train.determinism == "on",
        "config": configs.resolved(config),
        "fingerprint": fingerprint,
        "data": data,
        "commit": commit,
        **({"imported": imported} if imported else {}),
    }
    files.atomic_write_json(directory / "run.json", info)
    return Run(directory, info)


def _refuse_other(run: Run, config: configs.Config, seed: int) -> None:
    differing = configs.differences(run.info["config"], configs.resolved(config))
    if run.seed != seed:
        differing["seed"] = (run.seed, seed)
    if differing:
        named = ", ".join(f"{k} ({a!r} there, {b!r} here)" for k, (a, b) in differing.items())
        raise UsageError(
            f"{run.directory} was begun with another config: {named}",
            remedy="give another --output-dir, or the run's own settings to continue it",
        )


def _refuse_other_data(run: Run, data: dict[str, Any]) -> None:
    """Continuing with other data would be another run. A digest decides where both have it."""
    before = run.info.get("data") or {}
    for key in ("digest", "sampled_digest"):
        if before.get(key) and data.get(key):
            if before[key] == data[key]:
                return
            raise UsageError(
                f"{run.directory} was begun with other data ({before.get('directory')}, "
                f"{key} {before[key][:12]}; here {data[key][:12]})",
                remedy="give the --data it was begun with, or another --output-dir",
            )


def _refuse_foreign(directory: Path) -> None:
    try:
        # `lock` is ours: taken before the run is begun.
        foreign = [p.name for p in directory.iterdir() if p.name != "lock" and p.name[0] != "."]
    except FileNotFoundError:
        return
    except OSError as error:
        raise EnvironmentFault(f"cannot use {directory}: {error.strerror}") from error
    if foreign:
        raise UsageError(
            f"{directory} is not empty and not a run (it holds {sorted(foreign)[0]})",
            remedy="give another --output-dir; nothing there was touched",
        )


def remove(directory: Path) -> None:
    """Remove a run (`--overwrite`). UsageError if `directory` holds anything else."""
    if not directory.exists():
        return
    if not (directory / "run.json").is_file():
        _refuse_foreign(directory)
    with locked(directory), files.writing(directory):
        doomed = directory.with_name(f".{directory.name}.{os.getpid()}.removed")
        os.rename(directory, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run's lock; EnvironmentFault naming the holder if another process does.

    An flock dies with its process, so a lock left by a killed one is harmless.
    """
    with files.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise EnvironmentFault(
                f"{directory} is being worked on by {holder or 'another process'}",
                remedy="wait for it, or stop it",
            ) from error
        with files.writing(directory / "lock"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def find(paths: tuple[str, ...] = (), *, root: Path = ROOT) -> list[Run]:
    """The runs named by `paths`, or every run under `root`, oldest first."""
    if paths:
        return [load(path) for path in paths]
    candidates = sorted(root.glob("*/run.json"), key=lambda p: (p.stat().st_mtime_ns, str(p)))
    if not candidates:
        raise UsageError(
            f"there is no run under {root}/", remedy="start one with `harness train CONFIG`"
        )
    return [load(path.parent) for path in candidates]


def newest(*, root: Path = ROOT) -> Run:
    """The run under `root` that was worked on last."""

    def last_touched(run: Run) -> int:
        files_ = (run.metrics_file, run.directory / "run.json")
        return max(path.stat().st_mtime_ns for path in files_ if path.exists())

    return max(find(root=root), key=last_touched)


class Lines:
    """An append-only JSON-lines file; each line is one write, so only the last can be torn."""

    def __init__(self, path: Path, *, keep_through: int):
        """Open for appending; lines of steps after `keep_through`, or torn, are dropped."""
        self.path = path
        kept = [line for line in read_lines(path) if line["step"] <= keep_through]
        text = b"".join(_encode(line) for line in kept)
        with files.writing(path):
            if not path.exists() or path.read_bytes() != text:
                files.atomic_write_bytes(path, text)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, line: dict[str, Any]) -> None:
        data = _encode(line)
        with files.writing(self.path):
            written = os.write(self._descriptor, data)
            if written != len(data):  # a full disk takes part of it; the reader drops a torn line
                os.write(self._descriptor, data[written:])

    def sync(self) -> None:
        """Make what was appended survive a power cut; called before a checkpoint counts."""
        with files.writing(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file, each with an integer `step`; [] if there is no file.

    A last line without its newline was torn by a kill and is left out; any other
    bad line is a DataError that names it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    lines = data.split(b"\n")[:-1]
    found = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or type(value.get("step")) is not int:
            raise DataError(f"{path} line {number} is not a JSON object with a step")
        found.append(value)
    return found


def _numbered(folder: Path, suffix: str = "") -> list[int]:
    """Numbers in names of eight digits or more (foreign files are passed over), ascending."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if path.name.endswith(suffix))
    stems = (n.removesuffix(suffix) for n in names)
    return sorted(int(stem) for stem in stems if len(stem) >= 8 and stem.isascii() and stem.isdigit())

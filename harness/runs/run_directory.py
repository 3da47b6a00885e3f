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

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import configs, files
from harness.base import kernel_choice
from harness.base.errors import DataError, UsageError
from harness.runs.log_lines import read_lines

SCHEMA = 1
RESULT_SCHEMA = 1  # of an evaluation's result.json
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

    @cached_property
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
    def first_step(self) -> int:
        """The step that training began after: 0, or that of imported weights."""
        step = (self.info.get("imported") or {}).get("step", 0)
        return step if type(step) is int else 0

    @property
    def data_directory(self) -> Path:
        """Where the data lay that the run was trained on; data/DATASET where that is not known."""
        recorded = (self.info.get("data") or {}).get("directory")
        # As this locale's Python names it: the one that wrote it down may have had another.
        named = recorded and os.fsdecode(recorded.encode("utf-8", "surrogateescape"))
        return Path(named or Path("data") / self.config.data.dataset)

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

    def touched(self) -> float:
        """When metrics.jsonl or run.json changed last, as time.time; 0 if both are gone."""
        return max(map(_changed, (self.metrics_file, self.directory / "run.json")))

    def stack_changes(self) -> list[dict[str, Any]]:
        """Steps after which the run went on with another stack (see `note_stack`), ascending."""
        changes = self.info.get("stack_changes", [])
        if not isinstance(changes, list) or not all(
            isinstance(one, dict)
            and type(one.get("step")) is int
            and isinstance(one.get("differs"), dict)
            for one in changes
        ):
            raise DataError(f"{self.directory}/run.json: stack_changes is not as it was written")
        return changes

    def checkpoint_steps(self) -> list[int]:
        """Steps of which a checkpoint directory exists (whole or not), ascending."""
        steps = _numbered(self.checkpoints)
        return [step for step in steps if self.checkpoint(step).is_dir()]

    def chosen_step(self, step: int | None) -> int:
        """`step`, or the newest one, if it has a checkpoint; UsageError if there is none."""
        steps = self.checkpoint_steps()
        if not steps:
            raise UsageError(
                f"{self.directory} has no checkpoint yet", remedy="train it to its first save_steps"
            )
        if step is not None and step not in steps:
            shown = ", ".join(map(str, steps[-8:]))
            raise UsageError(
                f"{self.directory} has no checkpoint of step {step}", remedy=f"it has {shown}"
            )
        return steps[-1] if step is None else step

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
                files.refuse_newer(result, RESULT_SCHEMA, path)
                found.append({**result, "directory": str(path.parent)})
        return found


def load(directory: Path | str) -> Run:
    """Open an existing run. UsageError if there is none, DataError if run.json is not sound."""
    directory = Path(directory)
    path = directory / "run.json"
    if not path.is_file():
        raise UsageError(f"{directory} is not a run: it has no run.json")
    info = files.read_json(path)
    files.refuse_newer(info, SCHEMA, path)
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a run of schema {SCHEMA}")
    for key, kind in (("config", dict), ("digest", str), ("seed", int), ("fingerprint", dict)):
        if not isinstance(info.get(key), kind):
            raise DataError(f"{path} has no {key}")
    for key, texts in (("data", ("directory", "digest", "sampled_digest")), ("imported", ())):
        value = info.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(value.get(one) or "", str)
                                                  for one in texts):
            raise DataError(f"{path}: {key} is not as it was written")
    return Run(directory, {**info, "fingerprint": kernel_choice.filled(info["fingerprint"])})


def find(paths: tuple[str, ...] = (), *, root: Path = ROOT) -> list[Run]:
    """The runs named by `paths`, or every run under `root`, oldest first.

    One that is named twice is one run: a gate would take its figures for independent ones.
    """
    if paths:
        return list({run.directory.resolve(): run for run in map(load, paths)}.values())
    candidates = sorted(root.glob("*/run.json"), key=lambda p: (_changed(p), str(p)))
    if not candidates:
        raise UsageError(
            f"there is no run under {root}/", remedy="start one with `harness train CONFIG`"
        )
    try:
        return [load(path.parent) for path in candidates]
    except DataError as error:
        raise DataError(error.message, remedy="name the runs to take, or move it away") from error


def newest(*, root: Path = ROOT) -> Run:
    """The run under `root` that was worked on last."""
    return max(find(root=root), key=Run.touched)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _numbered(folder: Path, suffix: str = "") -> list[int]:
    """Numbers in names of eight digits or more (foreign files are passed over), ascending."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):  # before it is there, or no more
        return []
    stems = (n.removesuffix(suffix) for n in names if n.endswith(suffix))
    return sorted(int(s) for s in stems if 8 <= len(s) <= 18 and s.isascii() and s.isdigit())

"""One cell, and how it is run: the nightly, A/B and bisecting are ways to choose cells.

A cell is trained by a fresh process in a process group of its own, with the interpreter of its
stack, and leaves an ordinary run directory. What is on disk says which cells are done, so that
whoever runs the same cells again goes on where they stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import configs, runs
from harness.base.errors import (
    DataError,
    EnvironmentFault,
    HarnessError,
    Interrupted,
    UsageError,
)
from harness.base.progress import Progress, say
from harness.cells import side_by_side
from harness.cells.side_by_side import Job
from harness.distributed import child_commands, turns

_ROOT = Path(__file__).resolve().parents[2]
# The checkout that this code is of. An installed harness lies among all that its environment has,
# and none of that may come before another environment's own.
CHECKOUT = _ROOT if (_ROOT / "pyproject.toml").is_file() else None
_ERRORS: dict[int, type[HarnessError]] = {2: UsageError, 4: DataError}


@dataclass(frozen=True)
class Cell:
    """A run of `config` (a shipped name or a TOML file) in `directory`, to step `until`.

    `python`: the interpreter of its stack. `source`: the folder whose harness it runs; None for
    the one that `python` has installed. `arguments`: options of `harness train` and `harness eval`
    alike. `environment`: variables that are set beside ours.
    """

    config: str
    data: Path
    directory: Path
    seed: int | None = None
    until: int | None = None
    overrides: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    python: str = sys.executable
    source: Path | None = CHECKOUT


@dataclass(frozen=True)
class Ended:
    """How a cell's process ended, and all that it said on stderr."""

    what: str
    code: int
    stderr: str

    def error(self) -> HarnessError:
        """A failure as an error of ours, of the process's own kind where that is known."""
        return _ERRORS.get(self.code, EnvironmentFault)(str(self))

    def __str__(self) -> str:
        last = (self.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"{self.what} ended with {self.code}: {last.removeprefix('harness: error: ')}"


def interpreter(name: str) -> str:
    """The path of a Python, its links kept: a virtual environment's are links; or UsageError."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is no Python that can be run", remedy="give the path of one")
    return os.path.abspath(found)


def given(**values: Any) -> list[str]:
    """Options of a command: `n_samples=50` is `--n-samples 50`, True a flag, a tuple one for each.

    None and False are left out.
    """
    found = []
    for key, value in values.items():
        name = f"--{key.replace('_', '-')}"
        if value is True:
            found.append(name)
        elif value is not None and value is not False:
            each = value if isinstance(value, tuple) else (value,)
            found += [word for one in each for word in (name, str(one))]
    return found


def done(cell: Cell) -> bool:
    """Whether the cell's run has come to its end; what is in the way, its command will say."""
    try:
        run = runs.load(cell.directory)
        config = configs.load(_config(cell), cell.overrides)
    except HarnessError:
        return False
    seed = config.train.seed if cell.seed is None else cell.seed
    if run.info["digest"] != configs.digest(config) or run.seed != seed:
        return False
    last = min(cell.until or config.train.max_steps, config.train.max_steps)
    return max(run.checkpoint_steps(), default=-1) >= last


def train(cell: Cell, *, retries: int = 0) -> Ended:
    """Train the cell, if it is not done. Interrupted if it was stopped: all that it did is kept.

    What fails is tried `retries` times again, but a usage error, which would be the same.
    """
    if done(cell):
        return Ended(str(cell.directory), 0, "")
    for left in range(retries, -1, -1):
        ended = _call(cell, *_training(cell))
        if ended.code in (0, 2) or not left:
            break
        say(f"{ended}; trying again")
    return ended


def train_in_turns(pair: Sequence[Cell], *, retries: int = 0) -> list[Ended]:
    """Train two cells beside each other, which take turns step by step; else as `train`.

    One that fails is tried again alone, and so goes on one whose other was done before.
    """
    left = [cell for cell in pair if not done(cell)]
    ended = dict(_beside_each_other(left)) if len(left) == 2 else {}
    for cell in pair:
        found = ended.get(cell)
        if found and found.code not in (0, 2) and retries:
            say(f"{found}; trying again")
            found = train(cell, retries=retries - 1)
        ended[cell] = found or train(cell, retries=retries)
    return [ended[cell] for cell in pair]


def _beside_each_other(pair: Sequence[Cell]) -> Iterator[tuple[Cell, Ended]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        jobs = {}
        for cell, (variables, end) in zip(pair, held.enter_context(turns.pair()), strict=True):
            command, environment, where = _command(cell, *_training(cell))
            jobs[cell] = Job(
                str(cell.directory), command, Path(folder) / str(end),
                {**environment, **variables}, where, (end,),
            )
        cells = {job.name: cell for cell, job in jobs.items()}
        try:
            with contextlib.closing(side_by_side.run(jobs.values(), [{}, {}], {})) as every:
                for job, code in every:
                    held.close()  # so that the other hears of it
                    said = job.log.read_text(errors="replace")
                    yield cells[job.name], _ended(cells[job.name], "train", code, said)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be run: {error.strerror}") from error


def evaluate(cell: Cell, *options: object) -> Ended:
    """`harness eval --fid` of the cell's run, with the cell's stack and settings."""
    return _call(cell, "eval", _absolute(cell.directory), "--fid", *options)


def train_all(
    cells: Iterable[Cell], label: str, *, retries: int = 0, in_turns: bool = False
) -> Iterator[tuple[Cell, Ended]]:
    """Train those that are not done, in this order, showing how far it is; how each ended.

    `in_turns`: two by two, beside each other and in turns.
    """
    cells, size = list(cells), 2 if in_turns else 1
    groups = [cells[first:first + size] for first in range(0, len(cells), size)]
    left = [group for group in groups if not all(map(done, group))]
    start = len(cells) - sum(map(len, left))
    with Progress(len(cells), label, start=start, unit="runs", early=True) as progress:
        for group in left:
            found = (train_in_turns(group, retries=retries) if in_turns
                     else [train(group[0], retries=retries)])
            progress.advance(len(group))
            yield from zip(group, found, strict=True)


def _training(cell: Cell) -> list[str]:
    return ["train", _config(cell), *given(
        output_dir=_absolute(cell.directory), no_eval=True, seed=cell.seed, until=cell.until,
        set=cell.overrides,
    )]


def _call(cell: Cell, *words: object) -> Ended:
    command, environment, folder = _command(cell, *words)
    try:
        process = child_commands.run(command, env=environment, cwd=folder)
    except OSError as error:
        raise UsageError(f"{cell.python} cannot be run: {error.strerror}") from error
    return _ended(cell, words[0], process.returncode, process.stderr)


def _command(cell: Cell, *words: object) -> tuple[list[str], dict[str, str], Path]:
    """The command, its environment, and the folder that it is called from."""
    command = [
        cell.python, "-m", "harness", *map(str, words), "--data", _absolute(cell.data),
        *cell.arguments,
    ]
    # `python -m` finds first what lies in the folder that it is called from.
    folder = cell.source or cell.directory.parent
    folder.mkdir(parents=True, exist_ok=True)
    return command, _environment(cell), folder


def _ended(cell: Cell, word: object, code: int, stderr: str) -> Ended:
    what = f"{cell.directory}: `harness {word}`"
    if code == 75:
        raise Interrupted(f"{what} was stopped", remedy="run the same command again")
    return Ended(what, code, stderr)


def _environment(cell: Cell) -> dict[str, str]:
    """Ours and the cell's; the cell's harness first."""
    own = cell.environment.get("PYTHONPATH")
    path = [str(part) for part in (cell.source, own) if part]
    return {**outside_git(), **cell.environment, "PYTHONPATH": os.pathsep.join(path)}


def outside_git() -> dict[str, str]:
    """Our environment, without the GIT_* variables of a hook."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def _config(cell: Cell) -> str:
    is_path = cell.config.endswith(".toml") or "/" in cell.config
    return _absolute(cell.config) if is_path else cell.config


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)

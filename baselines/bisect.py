"""Find the commit, or the Paddle, that made a metric worse, with the gate as the test.

Commits are searched by `git bisect run`, in a work tree of its own, so the user's checkout, index
and any bisecting of theirs stay as they are. Every commit trains the same config file on the same
data with its own code; the gate that judges is the one that is running. Versions of Paddle train
with this code, each in an environment of its own.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from baselines import gate, record
from baselines.verdicts import Report
from harness import files, runs
from harness.base.errors import EnvironmentFault, UsageError
from harness.base.progress import say
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell
from harness.distributed import child_commands, program

# Metric -> (what the gate looks at, runs a commit, runs of the good commit).
METRICS = {
    "throughput": (("throughput",), 5, 5),
    "loss": (("loss_bits", "train_loss"), 1, 3),
}
ROUNDS = 3  # a commit that stays inconclusive after so many rounds of runs is skipped
GOOD, BAD, SKIP, ABORT = 0, 1, 125, 128  # what `git bisect run` makes of exit codes
SOURCE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Search:
    """One bisection: paths are absolute, `until` is the step that every run stops at.

    Candidates are commits or, where `pythons` has their interpreters, versions of Paddle.
    """

    config: str
    data: str
    metric: str
    until: int
    folder: str  # holds tree/, runs/, and this search as search.json
    good: str  # the first candidate
    set: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()  # options of `harness train`
    pythons: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        return Path(self.folder) / "tree"

    @property
    def kind(self) -> str:
        return "Paddle" if self.pythons else "commit"

    def choose(self, candidate: str) -> None:
        """Make it the one that trains."""
        if not self.pythons:
            _git(self.tree, "checkout", "--quiet", "--detach", candidate)

    def cell(self, candidate: str, number: int) -> Cell:
        directory = Path(self.folder) / "runs" / f"{_short(candidate)}-{number}"
        python = self.pythons.get(candidate)
        return Cell(
            self.config, Path(self.data), directory, until=self.until, overrides=self.set,
            arguments=self.arguments, python=python or sys.executable,
            source=cells.CHECKOUT if python else self.tree,
        )


def bisect(
    config: str, data: Path, *, metric: str, until: int, good: str, bad: str,
    overrides: Sequence[str] = (), arguments: Sequence[str] = (), repository: Path = Path("."),
) -> dict[str, Any]:
    """The first commit between `good` and `bad` at which `metric` is worse than at `good`.

    Returns {"commit", "subject"} or, where commits had to be skipped, {"candidates": [...]},
    with {"log"}, git's own record of the search. UsageError if `bad` is not worse than `good`.
    """
    repository = Path(_git(repository, "rev-parse", "--show-toplevel"))
    commits = [_commit(repository, rev) for rev in (good, bad)]
    with tempfile.TemporaryDirectory(prefix="harness-bisect-") as folder:
        search = Search(
            config, str(data.resolve()), metric, until, folder, commits[0], tuple(overrides),
            tuple(arguments),
        )
        _git(repository, "worktree", "add", "--quiet", "--detach", str(search.tree), commits[0])
        try:
            search = replace(search, config=_one_config(search))
            files.atomic_write_json(Path(folder) / "search.json", asdict(search))
            prepare(search, *commits)
            return _run(search, *commits)
        finally:
            _git(repository, "worktree", "remove", "--force", str(search.tree))


def _one_config(search: Search) -> str:
    """A copy of the config as the good commit has it: later commits may not change it."""
    folder = search.tree / "harness" / "configs"
    name = f"{search.config}.toml"
    places = [folder / "shipped" / name, folder / name, Path(search.config)]  # the second: once
    source = next((place for place in places if place.is_file()), places[-1])
    if not source.is_file():
        raise UsageError(f"there is no config {search.config!r} at the good commit")
    copy = Path(search.folder) / source.name
    copy.write_bytes(source.read_bytes())
    return str(copy)


def prepare(search: Search, good: str, bad: str) -> None:
    """Record the good one's baseline, and make sure that the bad one is worse."""
    say(f"measuring the good {search.kind} {_short(good)}")
    made = _train(search, good, range(METRICS[search.metric][2]))
    if made is None:
        raise UsageError(
            f"the good {search.kind} cannot train this config", remedy="its output is above"
        )
    record.save(record.record(made, "good", vouched=True), folder=Path(search.folder))
    search.choose(bad)
    if judge(search, bad) != BAD:
        raise UsageError(
            f"the bad {search.kind} {_short(bad)} is not worse than the good one in "
            f"{search.metric}",
            remedy=f"choose other {search.kind}s, or a larger --until",
        )


def _run(search: Search, good: str, bad: str) -> dict[str, Any]:
    tree = search.tree
    _git(tree, "bisect", "start", bad, good)
    # The step runs from our own source folder: `python -m` would find the tree's code first.
    step = f"cd {shlex.quote(str(SOURCE))} && exec {shlex.quote(sys.executable)} -m " \
           f"baselines.bisect {shlex.quote(search.folder)}"
    process = child_commands.run(
        ["git", "bisect", "run", "sh", "-c", step], cwd=tree, env=_environment()
    )
    log = _git(tree, "bisect", "log")
    if process.returncode == 0:
        commit = _git(tree, "rev-parse", "refs/bisect/bad")
        return {"commit": commit, "subject": _git(tree, "log", "-1", "--format=%s", commit),
                "log": log}
    if "only 'skip'ped commits left" in process.stdout + log:
        text = _git(tree, "rev-list", "refs/bisect/bad", "--not", "--glob=refs/bisect/good-*")
        return {"candidates": text.split(), "log": log}
    raise EnvironmentFault(f"git bisect stopped: {process.stderr.strip()[-300:]}")


def judge(search: Search, commit: str) -> int:
    """Train the chosen candidate and compare: GOOD, BAD, or SKIP where it cannot be told."""
    only, count, _ = METRICS[search.metric]
    baseline = record.load(str(Path(search.folder) / "good.json"))
    made: list[runs.Run] = []
    for round_ in range(ROUNDS):
        more = _train(search, commit, range(round_ * count, (round_ + 1) * count))
        if more is None:
            return SKIP
        made += more
        report = gate.check(made, baseline, vouched=True, only=only)
        for verdict in report.verdicts:
            say(f"{_short(commit)} {verdict.metric}: {verdict.verdict} {verdict.reason}")
        if _is_worse(report):
            now = _good_now(search, baseline, commit)
            if _is_worse(gate.check(made, now, vouched=True, only=only)):
                return BAD
            say(f"{_short(commit)} is no worse than the good {search.kind} is by now; the machine "
                "changed")
            return SKIP
        if report.outcome == "passed":
            return GOOD
        if report.outcome == "failed":
            return SKIP
    return SKIP


def _is_worse(report: Report) -> bool:
    return any(verdict.verdict == "worse" for verdict in report.verdicts)


def _good_now(search: Search, baseline: record.Baseline, commit: str) -> record.Baseline:
    """The good one measured again, if what it is measured by depends on the machine.

    A machine that has become slower since makes any look worse. `commit` is chosen again after.
    """
    _, count, first = METRICS[search.metric]
    if search.metric != "throughput":
        return baseline
    good = search.good
    before = len(list((Path(search.folder) / "runs").glob(f"{_short(good)}-*")))
    say(f"measuring the good {search.kind} {_short(good)} again")
    search.choose(good)
    try:
        made = _train(search, good, range(before, before + max(count, first)))
    finally:
        search.choose(commit)
    return record.record(made, "good-again", vouched=True) if made else baseline


def _train(search: Search, commit: str, numbers: range) -> list[runs.Run] | None:
    """Runs of the candidate, one a number; None if it does not train."""
    made = []
    for number in numbers:
        cell = search.cell(commit, number)
        ended = cells.train(cell)
        if ended.code:
            say(f"{_short(commit)} does not train: {ended}")
            return None
        made.append(runs.load(cell.directory))
    return made


def _short(candidate: str) -> str:
    """A commit's first digits, or a version; of an interpreter what a folder may be called."""
    return re.sub(r"\W+", "-", candidate)[-40:] if "/" in candidate else candidate[:12]


def _environment() -> dict[str, str]:
    """Ours, with this harness found first."""
    return {**cells.outside_git(), "PYTHONPATH": str(SOURCE)}


def _commit(repository: Path, rev: str) -> str:
    try:
        return _git(repository, "rev-parse", "--verify", f"{rev}^{{commit}}")
    except UsageError:
        raise UsageError(
            f"{rev} is no commit of {repository}", remedy="`git log --oneline` lists them"
        ) from None


def _git(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True,
        env=_environment(),
    )
    if process.returncode:
        said = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"git {arguments[0]}: {said}")
    return process.stdout.strip()


def main(folder: str) -> int:
    """One step of `git bisect run`: judges the commit that is checked out in FOLDER/tree."""
    values = json.loads((Path(folder) / "search.json").read_text())
    search = Search(**{
        **values, "set": tuple(values["set"]), "arguments": tuple(values["arguments"])
    })
    try:
        return judge(search, _git(search.tree, "rev-parse", "HEAD"))
    except BaseException as error:  # git would take an exit code of 1 (or 75) for 'bad'
        say(f"bisect step failed: {error!r}")
        return ABORT


if __name__ == "__main__":
    program.run(lambda: sys.exit(main(sys.argv[1])))

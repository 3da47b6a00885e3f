"""`harness bisect` over real repositories whose history has a commit that changes training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from baselines import bisect as bisect_module
from baselines import record
from tests import fixtures
from tests.baselines import made
from tests.command import ROOT, assert_one_line_error, environment

SLOWER = tuple(0.8 * speed for speed in made.SPEEDS)
PARTS = ("harness", "models", "eval")
OPTIM, STEP, MEASURE = (
    Path(f"harness/training/{name}.py") for name in ("learning_rate", "step", "measure")
)
# A clock that others on the machine do not move: this thread's CPU time, and what it slept.
CLOCK = """

import threading
import types

_time, _sleep, _slept = time, time.sleep, 0.0


def _sleeping(seconds):
    global _slept
    _sleep(seconds)
    if threading.current_thread() is threading.main_thread():
        _slept += seconds


_time.sleep = _sleeping
time = types.SimpleNamespace(
    time=_time.time, perf_counter=lambda: _time.thread_time() + _slept
)
"""
# Appended to harness/training/step.py: what stands for a device's work, a sleep that is none of
# the CPU's.
NAP = """

import time

_train = Trainer.train
NAP = {seconds}


def _napping(self, *given, **named):
    time.sleep(NAP)
    return _train(self, *given, **named)


Trainer.train = _napping
"""


def git(repository, *arguments):
    process = subprocess.run(
        ["git", "-C", repository, "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        check=True, capture_output=True, text=True,
    )
    return process.stdout.strip()


def commit(repository, message):
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def begin(repository):
    """Our source in a repository of its own, nothing committed yet."""
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, repository / part, ignore=ignored)
    git(repository, "init", "-q")
    return repository


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """(repository, commits): of five, the fourth halves the learning rate; the third is broken."""
    repository = begin(tmp_path_factory.mktemp("history"))
    commits = [commit(repository, "begin")]
    (repository / "README.md").write_text("one\n")
    commits.append(commit(repository, "say something"))
    path, text = repository / OPTIM, (ROOT / OPTIM).read_text()
    path.write_text("import nothing_of_that_name\n" + text)
    commits.append(commit(repository, "break it"))
    slower = "\n_learning_rate = learning_rate\n\n\ndef learning_rate(*a):\n" \
             "    return 0.5 * _learning_rate(*a)\n"
    path.write_text(text + slower)
    commits.append(commit(repository, "halve the learning rate"))
    (repository / "README.md").write_text("two\n")
    commits.append(commit(repository, "say more"))
    return repository, commits


def bisect(history, features, *arguments, metric="loss", until=3):
    repository, _ = history
    config = fixtures.write_tiny_config(repository.parent / "tiny.toml")
    return subprocess.run(
        [sys.executable, "-m", "harness", "bisect", config, "--data", features, "--metric", metric,
         "--until", str(until), *arguments],
        cwd=repository, env=environment(PYTHONSAFEPATH="1"), capture_output=True, text=True,
    )


def test_the_commit_is_found_and_the_checkout_left_alone(history, features):
    repository, commits = history
    process = bisect(history, features, "--good", commits[0], "--bad", "HEAD", "--json")
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    # The broken commit cannot be told apart from the one that follows it.
    assert set(found.get("candidates", [found.get("commit")])) <= set(commits[2:4])
    assert commits[3] in found.get("candidates", [found.get("commit")])
    assert git(repository, "rev-parse", "HEAD") == commits[-1]
    assert git(repository, "status", "--porcelain") == ""
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_bad_commit_that_is_no_worse_is_refused(history, features):
    _, commits = history
    process = bisect(history, features, "--good", commits[0], "--bad", commits[1])
    assert_one_line_error(process, 2, "is not worse than the good one in loss")


def test_unknown_revisions_are_refused(history, features):
    process = bisect(history, features, "--good", "nowhere", "--bad", "HEAD")
    assert_one_line_error(process, 2, "nowhere is no commit of")


def append(path, text):
    path.write_text(path.read_text() + text)


def slowed(repository, *, before, after, quiet, seconds=0.2):
    """Commits of which the last but `after` makes every step half as long again."""
    if quiet:
        append(repository / MEASURE, CLOCK)
    append(repository / STEP, NAP.format(seconds=seconds))
    commits = [commit(repository, "begin")]
    for number in range(before + 1 + after):
        if number == before:
            text = (repository / STEP).read_text()
            longer = text.replace(f"NAP = {seconds}", f"NAP = {1.5 * seconds}")
            (repository / STEP).write_text(longer)
        (repository / "README.md").write_text(f"{number}\n")
        commits.append(commit(repository, "sleep" if number == before else "say something"))
    return commits


def test_the_commit_that_put_a_sleep_in_is_found(features, tmp_path):
    repository = begin(tmp_path / "repository")
    commits = slowed(repository, before=1, after=0, quiet=True, seconds=0.1)
    process = bisect((repository, commits), features, "--good", commits[0], "--bad", "HEAD",
                     "--json", "--set", "train.max_steps=9", metric="throughput", until=9)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert (found["commit"], found["subject"]) == (commits[2], "sleep"), process.stderr
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    "now, verdict", [(made.SPEEDS, bisect_module.BAD), (SLOWER, bisect_module.SKIP)],
    ids=["the machine is as it was", "the machine has become slower"],
)
def test_a_worse_commit_is_held_against_the_good_one_again(tmp_path, monkeypatch, now, verdict):
    baseline = record.record(made.several(tmp_path, "good", speeds=made.SPEEDS), "good")
    record.save(baseline, folder=tmp_path)
    checked_out, trained = [], []

    def train(search, commit, numbers):
        trained.append((commit, numbers))
        speeds = now if commit == "good" else SLOWER
        return made.several(tmp_path, f"{commit}-again", speeds=speeds)

    monkeypatch.setattr(bisect_module, "_train", train)
    monkeypatch.setattr(bisect_module, "_git", lambda folder, *words: checked_out.append(words[-1]))
    (tmp_path / "runs" / "good-0").mkdir(parents=True)
    search = bisect_module.Search("small", "", "throughput", 300, str(tmp_path), "good")
    assert bisect_module.judge(search, "bad") == verdict
    assert checked_out == ["good", "bad"]
    assert trained == [("bad", range(5)), ("good", range(1, 6))]


@pytest.mark.slow
def test_a_sleep_is_found_by_the_wall_clock_in_a_longer_history(features, tmp_path):
    repository = begin(tmp_path / "repository")
    commits = slowed(repository, before=4, after=2, quiet=False)
    process = bisect((repository, commits), features, "--good", commits[0], "--bad", "HEAD",
                     "--json", "--set", "train.max_steps=20", metric="throughput", until=20)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    # On a busy machine commits may have to be skipped; the one that did it is always among them.
    assert commits[5] in found.get("candidates", [found.get("commit")]), process.stderr

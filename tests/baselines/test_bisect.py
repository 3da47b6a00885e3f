"""`harness bisect` over a real repository whose history has a commit that changes training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fixtures
from tests.command import ROOT, assert_one_line_error, environment

PARTS = ("harness", "models", "eval")
OPTIM = Path("harness/optim.py")


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


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """(repository, commits): of five, the fourth halves the learning rate; the third is broken."""
    repository = tmp_path_factory.mktemp("history")
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, repository / part, ignore=ignored)
    git(repository, "init", "-q")
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


def bisect(history, features, *arguments):
    repository, _ = history
    config = fixtures.write_tiny_config(repository.parent / "tiny.toml")
    return subprocess.run(
        [sys.executable, "-m", "harness", "bisect", config, "--data", features, "--metric", "loss",
         "--until", "3", *arguments],
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
    assert_one_line_error(process, 2, "git rev-parse")

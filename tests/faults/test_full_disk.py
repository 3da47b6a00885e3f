"""A disk that is full at each part of what a command writes, or may only be read (full_disk.py)."""

import shutil
import subprocess
import sys

import pytest

from tests import fixtures
from tests.command import ROOT, environment
from tests.faults.full_disk import COMMANDS, STEPS
from tests.harness.studies.made import write_study

IN_A_NAMESPACE = ["unshare", "-rm"]


def may_mount():
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(
    not may_mount(), reason="may not mount a disk of its own (unshare -rm)")


@pytest.fixture(scope="module")
def trained(warm, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "digits").symlink_to(digits)
    ended = warm.run("train", "digits_tiny", "--data", digits, "--no-eval", "--output-dir",
                     folder / "run", "--set", "train.max_steps=3", "--set", "train.log_steps=1")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def inputs(warm, trained):
    folder = trained
    fixtures.write_features(folder / "features")
    study = write_study(folder, seeds="[1]", steps=3)
    ended = warm.run("study", "run", study, "-o", folder / "study", "--data", folder / "features")
    assert ended.returncode == 0, ended.stderr
    for night in ("2026-11-24", "2026-11-25"):
        shutil.copytree(folder / "run", folder / "nights" / night / "run")
    return folder


@pytest.mark.faults
@needs_mounts
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(name, inputs, tmp_path):
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*IN_A_NAMESPACE, sys.executable, "-m", "tests.faults.full_disk", name, inputs,
         tmp_path / "disk"], cwd=ROOT, env=environment(TMPDIR=str(tmp_path)),
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= STEPS // 2


READ_ONLY_HOME = """
mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME" && ! touch "$HOME/x" && exec "$@"
"""


@needs_mounts
def test_a_home_that_cannot_be_written_is_no_reason_to_fail(trained, tmp_path):
    (tmp_path / "home").mkdir()
    for words in (("export", trained / "run", "-o", tmp_path / "made"),
                  ("sample", tmp_path / "made", "7", "--steps", "2", "-o", tmp_path / "7.png")):
        done = subprocess.run(
            [*IN_A_NAMESPACE, "sh", "-c", READ_ONLY_HOME, "sh", sys.executable, "-m", "harness",
             *map(str, words)],
            env=environment(HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path)),
            capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(words[-1])]
        assert "problem" not in done.stderr  # what ppdiffusers says of a cache

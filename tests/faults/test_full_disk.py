"""A disk that is full at each part of what eval, report, pack and export write (full_disk.py)."""

import shutil
import subprocess
import sys

import pytest

from tests.command import ROOT, environment
from tests.faults.full_disk import COMMANDS, STEPS

IN_A_NAMESPACE = ["unshare", "-rm"]


def may_mount():
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def inputs(warm, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "digits").symlink_to(digits)
    ended = warm.run("train", "digits_tiny", "--data", digits, "--no-eval", "--output-dir",
                     folder / "run", "--set", "train.max_steps=3", "--set", "train.log_steps=1")
    assert ended.returncode == 0, ended.stderr
    for night in ("2026-11-24", "2026-11-25"):
        shutil.copytree(folder / "run", folder / "nights" / night / "run")
    return folder


@pytest.mark.faults
@pytest.mark.skipif(not may_mount(), reason="may not mount a disk of its own (unshare -rm)")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(name, inputs, tmp_path):
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*IN_A_NAMESPACE, sys.executable, "-m", "tests.faults.full_disk", name, inputs,
         tmp_path / "disk"], cwd=ROOT, env=environment(TMPDIR=str(tmp_path)),
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= STEPS // 2

"""Environments that differ in Paddle alone."""

import subprocess

import pytest

from baselines import paddle_environments
from harness.base.errors import UsageError
from tests.command import ROOT, environment


@pytest.mark.parametrize("given_, version", [
    ("3.2.0", "3.2.0"), ("3.4.0.dev0", "3.4.0.dev0"), (".venv/bin/python", None), ("python3", None),
    ("x/paddlepaddle-3.4.0.dev0-cp311-cp311-linux_x86_64.whl", "3.4.0.dev0"),
    ("x/paddlepaddle_gpu-3.2.0-cp311-cp311-linux_x86_64.whl", "3.2.0"),
    ("torch-2.4.1-cp311-none-any.whl", None),
])
def test_versions_are_told_from_interpreters(given_, version):
    assert paddle_environments.version(given_) == version


@pytest.mark.parametrize("name, said", [
    ("torch-2.4.1-cp311-none-any.whl", "not named as a wheel of Paddle"),
    ("paddlepaddle-3.2.0-cp311-cp311-linux_x86_64.whl", "is no file"),
])
def test_wheels_that_are_none_are_refused(tmp_path, name, said):
    with pytest.raises(UsageError, match=said):
        paddle_environments.interpreter(str(tmp_path / name))


def test_builds_of_the_same_name_are_told_apart(tmp_path):
    wheels = [tmp_path / night / "paddlepaddle-3.4.0.dev0-py3-none-any.whl" for night in "ab"]
    for wheel in wheels:
        wheel.parent.mkdir()
        wheel.write_text(wheel.parent.name)
    names = {paddle_environments._name(wheel) for wheel in wheels}
    stamps = set()
    # The suite itself may run under make, whose children say which folder they leave.
    variables = {k: v for k, v in environment().items() if not k.startswith(("MAKE", "MFLAGS"))}
    for wheel in wheels:
        shown = subprocess.run(
            ["make", "-n", "install", "STACK=paddle3", f"PADDLE={wheel}", f"VENV={tmp_path}"],
            cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
        touch, stamp = shown.stdout.splitlines()[-1].split()
        stamps.add(stamp)
    assert touch == "touch" and len(names) == len(stamps) == 2, stamps

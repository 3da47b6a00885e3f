"""`harness bisect --paddle`: versions, wheels and environments in place of commits."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines import bisect, paddle_environments
from harness.base.errors import UsageError
from tests import fixtures
from tests.command import ROOT, assert_one_line_error, environment, harness

# What runs in place of `python -m harness ...`: training with half the learning rate.
BAD = """
from harness.training import learning_rate as module
usual = module.learning_rate
module.learning_rate = lambda *given: 0.5 * usual(*given)
"""
BROKEN = "sys.exit('this Paddle cannot be imported')\n"


def python(path, code=""):
    """An interpreter that runs `code` before what it is asked to."""
    path.write_text(
        f"#!{sys.executable}\nimport os, runpy, sys\nsys.path.insert(0, os.getcwd())\n{code}"
        "sys.argv = sys.argv[2:]\nrunpy.run_module('harness', run_name='__main__')\n"
    )
    path.chmod(0o755)
    return path


def test_the_first_bad_environment_is_found_and_a_broken_one_passed_over(tmp_path, features):
    pythons = [
        python(tmp_path / "good"), python(tmp_path / "good-too"), python(tmp_path / "bad", BAD),
        python(tmp_path / "broken", BROKEN), python(tmp_path / "bad-too", BAD),
    ]
    config = fixtures.write_tiny_config(tmp_path / "tiny.toml")
    given_ = [part for path in pythons for part in ("--paddle", path)]
    done = harness("bisect", config, "--data", features, "--metric", "loss", "--until", 3,
                   "--kernels", "paddle", "--json", *given_)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"paddle": str(pythons[2])}, done.stderr


def test_a_last_one_that_is_no_worse_is_refused(tmp_path, features):
    config = fixtures.write_tiny_config(tmp_path / "tiny.toml")
    done = harness("bisect", config, "--data", features, "--metric", "loss", "--until", 3,
                   "--paddle", python(tmp_path / "a"), "--paddle", python(tmp_path / "b"))
    assert_one_line_error(done, 2, "is not worse than the good one in loss")


@pytest.mark.parametrize("arguments, said", [
    (["--paddle", "3.3.1"], "one Paddle alone"),
    (["--good", "HEAD"], "give --good and --bad, or --paddle"),
    (["--good", "a", "--bad", "b", "--paddle", "3.3.1"], "give --good and --bad, or --paddle"),
    (["--paddle", "4.0.0", "--paddle", "3.3.1"], "there is no stack for Paddle 4.0.0"),
    (["--paddle", "3.3.1", "--paddle", "3.3.1"], "given twice"),
    (["--paddle", "nowhere/python", "--paddle", "3.3.1"], "no Python that can be run"),
])
def test_what_cannot_be_searched_is_refused(tmp_path, features, arguments, said):
    done = harness("bisect", "digits_tiny", "--data", features, "--metric", "loss", *arguments)
    assert_one_line_error(done, 2, said)


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
    for wheel in wheels:
        shown = subprocess.run(
            ["make", "-n", "install", "STACK=paddle3", f"PADDLE={wheel}", f"VENV={tmp_path}"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
        touch, stamp = shown.stdout.splitlines()[-1].split()
        stamps.add(stamp)
    assert touch == "touch" and len(names) == len(stamps) == 2, stamps


@given(st.data())
def test_the_first_bad_one_is_always_among_those_left(data):
    count = data.draw(st.integers(2, 40))
    first_bad = data.draw(st.integers(1, count - 1))
    skipped = data.draw(st.sets(st.integers(1, max(1, count - 2))))
    asked = []

    def verdict(name):
        asked.append(name)
        if name in skipped:
            return bisect.SKIP
        return bisect.BAD if name >= first_bad else bisect.GOOD

    left = bisect._narrowed(range(count), verdict)
    assert first_bad in left and len(set(asked)) == len(asked)
    if not skipped:
        assert left == [first_bad] and len(asked) <= 6

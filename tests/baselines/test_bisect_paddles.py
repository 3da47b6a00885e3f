"""`harness bisect --paddle`: versions, wheels and environments in place of commits."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines import bisect, bisect_paddles
from tests import fixtures
from tests.command import assert_one_line_error, harness

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

    left = bisect_paddles._narrowed(range(count), verdict)
    assert first_bad in left and len(set(asked)) == len(asked)
    if not skipped:
        assert left == [first_bad] and len(asked) <= 6

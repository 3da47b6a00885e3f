"""`harness baseline` and `harness check` as a user runs them: output and exit codes."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from tests.baselines import made
from tests.command import assert_one_line_error, harness


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with five good runs b0..b4, a slow one and a recorded baseline."""
    root = tmp_path_factory.mktemp("commands")
    made.several(root, "b")
    made.run(root / "slow", speed=70.0)
    process = harness("baseline", "record", *(f"b{i}" for i in range(5)), "--name", "n", cwd=root)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "baselines/recorded/n.json"
    return root


def test_a_good_run_exits_0(place):
    process = harness("check", "b0", "--baseline", "n", cwd=place)
    assert process.returncode == 0, process.stderr
    assert "passed" in process.stdout


def test_a_slow_run_exits_3_and_is_reported_everywhere(place, tmp_path):
    process = harness(
        "check", "slow", "--baseline", "n", "--json", "--junit", tmp_path / "j.xml", "--github",
        cwd=place, GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
    )
    assert_one_line_error(process, 3, "throughput worse")
    assert json.loads(process.stdout)["outcome"] == "failed"
    assert ElementTree.parse(tmp_path / "j.xml").getroot()[0].get("failures") == "1"
    assert "🔴 worse" in (tmp_path / "summary.md").read_text()
    assert "::error title=" in process.stderr


def test_a_run_given_several_times_is_one_run(place, tmp_path):
    process = harness("check", "slow", "slow", "./slow", "--baseline", "n", "--json", cwd=place)
    shown = {one["metric"]: one for one in json.loads(process.stdout)["verdicts"]}
    assert shown["throughput"]["n"] == [5, 1]
    process = harness("baseline", "record", "b0", "b1", "b2", "b2", "b2", "--name", "t",
                      "--dir", tmp_path, cwd=place)
    assert process.returncode == 0 and "throughput is left out" in process.stderr


def test_usage_errors(place):
    assert_one_line_error(harness("check", "b0", "--baseline", "m", cwd=place), 2, "recorded: n")
    assert_one_line_error(harness("check", "x", "--baseline", "n", cwd=place), 2, "not a run")
    process = harness("baseline", "record", "b0", "b1", "--name", "k", cwd=place)
    assert_one_line_error(process, 2, "at least 3")


def test_list_show_and_diff(place):
    rows = json.loads(harness("baseline", "list", "--json", cwd=place).stdout)
    assert [row["name"] for row in rows] == ["n"]
    assert "throughput" in harness("baseline", "show", "n", cwd=place).stdout
    shown = json.loads(harness("baseline", "show", "n", "--json", cwd=place).stdout)
    assert shown["metrics"]["throughput"]["n"] == 5
    found = json.loads(harness("baseline", "diff", "n", "n", "--json", cwd=place).stdout)
    assert found["differs"] == {} and all(row["ratio"] == 1 for row in found["metrics"])
    published = harness("baseline", "show", "published", cwd=place).stdout
    assert "5.48" in published and "https://" in published

"""A throttled or shared machine is told apart from a change for the worse."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from baselines import check_table, disturbances, gate, junit, record
from harness.base.errors import DataError
from tests.baselines import made

SLOW = [speed / 1.3 for speed in made.SPEEDS]
HOT = {"throttled_share": 0.4}


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return made.several(tmp_path_factory.mktemp("baseline"), "b")  # as an earlier commit wrote them


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return made.several(tmp_path_factory.mktemp("slow"), "c", speeds=SLOW, conditions=HOT)


def throughput(report):
    return next(one for one in report.verdicts if one.metric == "throughput")


@pytest.mark.parametrize(("condition", "words"), [
    ({"throttled_share": 0.4}, "throttled for 40% of the time, 0% when"),
    ({"others_share": 0.3}, "shared with other processes for 30%"),
    ({"stolen_share": 0.05}, "stolen by the host"),
])
def test_slow_on_a_disturbed_machine_is_not_comparable_and_not_worse(
    five, tmp_path, condition, words
):
    runs = made.several(tmp_path, "c", speeds=SLOW, conditions=condition)
    report = gate.check(runs, record.record(five, "b"))
    found = throughput(report)
    assert found.verdict == "not comparable" and words in found.reason
    assert report.outcome == "inconclusive"  # to run again is what may answer
    assert {one.verdict for one in report.verdicts if one is not found} == {"same"}


@pytest.mark.parametrize("condition", [
    {"throttled_share": 0.04, "others_share": 0.08, "power_capped_share": 1.0},
    {"throttled_share": None, "others_share": "much"}, {},
])
def test_what_is_usual_or_not_told_stays_comparable(five, tmp_path, condition):
    runs = made.several(tmp_path, "c", speeds=SLOW, conditions=condition)
    assert throughput(gate.check(runs, record.record(five, "b"))).verdict == "worse"


def test_a_baseline_keeps_its_own_conditions(slow, five, tmp_path):
    path = record.save(record.record(slow, "hot"), folder=tmp_path)
    hot = record.load(str(path))
    assert hot.content["metrics"]["throughput"]["conditions"] == pytest.approx(HOT)
    assert "conditions" not in hot.content["metrics"]["host_memory"]
    assert throughput(gate.check(slow, hot)).verdict == "same"
    cool = made.several(tmp_path, "c", conditions={"throttled_share": 0.0})
    assert throughput(gate.check(cool, hot)).verdict == "not comparable"
    content = json.loads(path.read_text())
    content["metrics"]["throughput"]["conditions"] = {"others_share": "much"}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="conditions that are not numbers"):
        record.load(str(path))


def test_who_measures_again_or_in_turns_decides_by_that(slow, five):
    baseline = record.record(five, "b")
    for how in ({"vouched": True}, {"turns": True}):
        assert throughput(gate.check(slow, baseline, **how)).verdict == "worse"


def test_one_disturbed_run_of_five_does_not_disturb_them_all(five, tmp_path):
    runs = made.several(tmp_path, "c", speeds=SLOW[:4], conditions={"throttled_share": 0.0})
    runs.append(made.run(tmp_path / "hot", speed=SLOW[4], conditions=HOT))
    assert throughput(gate.check(runs, record.record(five, "b"))).verdict == "worse"


def test_ci_hears_a_warning_and_no_error(slow, five):
    report = gate.check(slow, record.record(five, "b"))
    (line,) = check_table.github_lines(report)
    assert line.startswith("::warning") and "throttled" in line
    suite = ElementTree.fromstring(junit.document([report]))[0]
    assert (suite.get("errors"), suite.get("failures"), suite.get("skipped")) == ("0", "0", "1")


def test_a_share_is_weighted_by_time():
    lines = [{"seconds": 3.0, "others_share": 0.2}, {"seconds": 1.0, "others_share": 0.6},
             {"seconds": 5.0}, {"others_share": 1.0}]
    assert disturbances.of_lines(lines) == pytest.approx({"others_share": 0.3})

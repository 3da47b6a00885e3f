"""A check's report as a table, JSON, JUnit and GitHub's Markdown and annotations."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from baselines import check_table, gate, junit, record
from tests.baselines import made


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    root = tmp_path_factory.mktemp("render")
    baseline = record.record(made.several(root, "b"), "small-cpu")
    cases = {
        "good": [made.run(root / "good")],
        "slow": made.several(root, "slow", speeds=[80.0, 80.1, 79.9, 80.2, 79.8]),
        "fast": made.several(root, "fast", speeds=[130.0, 130.1, 129.9, 130.2, 129.8]),
        "noisy": made.several(root, "noisy", speeds=(70, 120, 95, 60, 110)),
        "lacking": [made.run(root / "lacking", fid=None)],
        "elsewhere": [made.run(root / "elsewhere", **{"package.numpy": "2.0"})],
    }
    return {name: gate.check(found, baseline) for name, found in cases.items()}


def test_the_table_names_every_metric_and_ends_with_the_outcome(reports):
    lines = check_table.table(reports["slow"]).splitlines()
    row = next(line for line in lines if line.startswith("throughput"))
    assert "worse" in row and "images/s" in row and "5:5" in row and "%" in row
    assert lines[-1].startswith("failed: ") and "1 worse" in lines[-1]
    assert "not gated on" in check_table.table(reports["elsewhere"])


def test_json_is_one_document_without_nan(reports):
    text = json.dumps(check_table.document(reports["noisy"]), allow_nan=False)
    document = json.loads(text)
    assert document["outcome"] == "inconclusive" and document["baseline"] == "small-cpu"
    assert {one["metric"] for one in document["verdicts"]} >= {"throughput", "loss_bits"}


@pytest.mark.parametrize(("case", "failures", "errors", "skipped"), [
    ("good", 0, 0, 0), ("slow", 1, 0, 0), ("fast", 0, 0, 0), ("noisy", 0, 0, 1),
    ("lacking", 0, 1, 0), ("elsewhere", 0, 0, 3),
])
def test_junit_counts(reports, case, failures, errors, skipped):
    root = ElementTree.fromstring(junit.document([reports[case]]))
    (suite,) = root
    assert suite.get("tests") == str(len(suite)) == str(len(reports[case].verdicts))
    counts = [suite.get(key) for key in ("failures", "errors", "skipped")]
    assert counts == [str(failures), str(errors), str(skipped)]
    kinds = [child.tag for case_ in suite for child in case_]
    assert [kinds.count(kind) for kind in ("failure", "error", "skipped")] == [
        failures, errors, skipped,
    ]


def test_github_annotations(reports):
    (line,) = check_table.github_lines(reports["slow"])
    assert line.startswith("::error title=small-cpu%3A throughput worse::-")
    assert "%25" in line and "\n" not in line
    assert [line[:9] for line in check_table.github_lines(reports["noisy"])] == ["::warning"]
    assert [line[:8] for line in check_table.github_lines(reports["fast"])] == ["::notice"]
    assert check_table.github_lines(reports["good"]) == []


def test_an_improvement_comes_with_the_command_that_records_it(reports):
    command = check_table.rerecord(reports["fast"])
    assert command.startswith("harness baseline record ") and "--name small-cpu" in command
    assert command in check_table.markdown(reports["fast"])
    assert check_table.rerecord(reports["good"]) is None
    assert check_table.rerecord(reports["slow"]) is None


def test_markdown_keeps_its_columns(reports):
    lines = check_table.markdown(reports["slow"]).splitlines()
    table = [line for line in lines if line[:1] == "|"]
    assert len({line.count("|") - line.count("\\|") for line in table}) == 1
    assert any("🔴 worse" in line for line in table)

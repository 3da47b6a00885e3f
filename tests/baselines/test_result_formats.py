"""Figures in other tools' forms, read by those tools' own readers where the registry has them."""

import io
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jsonschema
import junitparser
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from baselines import gate, metrics, record, result_formats
from harness.base import progress
from harness.commands.options import format_option
from tests import fixtures
from tests.baselines import made
from tests.command import ROOT, environment, harness

# https://bencher.dev/bmf.json
BMF = {
    "type": "object", "patternProperties": {".+": {
        "type": "object", "patternProperties": {".+": {
            "type": "object", "required": ["value"], "properties": {
                key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
        }},
    }},
}
# benchmark-action/github-action-benchmark, README: customSmallerIsBetter, customBiggerIsBetter.
GHA = {
    "type": "array", "items": {
        "type": "object", "required": ["name", "unit", "value"], "properties": {
            "name": {"type": "string"}, "unit": {"type": "string"}, "value": {"type": "number"},
            "range": {"type": "string"}, "extra": {"type": "string"},
        }, "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Five runs of `small`, their speeds apart."""
    return made.several(tmp_path_factory.mktemp("formats"), "r")


def told(found, form):
    return result_formats.document(found, form)


def values(found):
    (group,) = result_formats.groups(found)
    return {key: one.value for key, one in group.figures.items()}


def test_the_option_has_the_forms():
    for more, forms in (((), result_formats.FORMATS),
                        (("markdown-pr",), result_formats.CHECK_FORMATS)):
        (option,) = format_option(*more)(lambda: None).__click_params__
        assert tuple(option.type.choices) == forms


def test_tipc_is_a_line_of_what_the_robots_parse(found):
    (line,) = told(found, "tipc").splitlines()
    one = json.loads(line)
    # test_tipc/docs/benchmark_train.md of PaddlePaddle's model repositories
    assert list(one) == [
        "model_branch", "model_commit", "model_name", "batch_size", "fp_item", "run_process_type",
        "run_mode", "convergence_value", "convergence_key", "ips", "speed_unit", "device_num",
        "model_run_time", "frame_commit", "frame_version",
    ]
    assert one["model_name"] == f"small_bs{one['batch_size']}_{one['fp_item']}_DP"
    assert one["ips"] == pytest.approx(sorted(made.SPEEDS)[2], rel=5e-3)
    assert re.fullmatch(r"N\d+C\d+", one["device_num"])
    assert one["convergence_value"] == values(found)["train_loss"]


def test_the_log_has_what_the_robots_look_for(monkeypatch):
    """`ips:` and `loss:`, each followed by its number, as their analysis.py takes a line apart."""
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    with progress.Progress(2, "train small", unit="step") as bar:
        bar.advance(2, {"loss": "0.1234", "ips": "832.10 images/s"})
    words = err.getvalue().split()
    assert float(words[words.index("loss:") + 1]) == 0.1234
    assert float(words[words.index("ips:") + 1]) == 832.1


def test_bencher_takes_it(found):
    document = json.loads(told(found, "bmf"))
    jsonschema.validate(document, BMF)
    throughput = document["small"]["throughput"]
    assert (throughput["lower_value"], throughput["upper_value"]) == pytest.approx(
        (min(made.SPEEDS), max(made.SPEEDS)), rel=5e-3)
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", slug) for slug in document["small"])


def test_the_benchmark_action_takes_both_halves(found):
    halves = {form: json.loads(told(found, form)) for form in ("gha-bigger", "gha-smaller")}
    names = []
    for form, entries in halves.items():
        jsonschema.validate(entries, GHA)
        for entry in entries:
            key = entry["name"].removeprefix("small: ")
            names.append(key)
            metric = metrics.METRICS[metrics.family(key)]
            assert metric.more_is_better == (form == "gha-bigger")
            assert entry["value"] == values(found)[key]
    assert sorted(names) == sorted(values(found))


def test_prometheus_takes_it_by_both_of_its_parsers(found):
    text = told(found, "openmetrics")
    for parse in (openmetrics, prometheus):
        samples = {
            (sample.name, sample.labels.get("protocol", "")): sample
            for family in parse(text) for sample in family.samples
        }
        assert {key: sample.value for key, sample in samples.items()} == {
            (f"harness_{metrics.family(key)}", key.partition("/")[2]): value
            for key, value in values(found).items()
        }
        assert all(sample.labels["config"] == "small" for sample in samples.values())
    strange = result_formats._escaped('a "b"\\\n')
    (family,) = openmetrics(f'# TYPE x gauge\nx{{y="{strange}"}} 1.0\n# EOF\n')
    assert family.samples[0].labels["y"] == 'a "b"\\\n'


def test_junit_is_read_back(found):
    suites = junitparser.JUnitXml.fromstring(told(found, "junit").encode())
    (suite,) = suites
    assert suite.name == "small" and suite.failures == suite.errors == 0
    assert {case.name: case.system_out.split()[0] for case in suite} == {
        key: f"{value:.6g}" for key, value in values(found).items()}


def test_a_comment_begins_with_what_is_not_the_same(found, tmp_path):
    baseline = record.record(found, "small-r")
    slow = made.several(tmp_path, "slow", speeds=[80.0, 80.1, 79.9, 80.2, 79.8],
                        device="a | <b>@card</b>")
    cases = {"✅ passed": found, "🔴 failed": slow}
    for outcome, runs in cases.items():
        report = gate.check(runs, baseline)
        text = result_formats.of_check(report, runs, "markdown-pr")
        marker, heading, *rest = text.splitlines()
        assert marker == "<!-- harness check small-r -->"
        assert heading == f"### {outcome}: `small-r`" and text.endswith("\n")
        assert rest[1].startswith("5 runs of dddddddddd to step 200, paddle2.6 on ")
        shown, _, folded = text.partition("<details>")
        differing = [one.metric for one in report.verdicts if one.verdict != "same"]
        assert all(f"| {key.replace('_', chr(92) + '_')} |" in shown for key in differing)
        assert text.count("\n| ") == len(report.verdicts) + 2 * (1 + bool(differing))
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in table}) == 1
        assert "train\\_loss" in folded and folded.count("</details>") == 1
    assert "a \\| &lt;b&gt;&#64;card&lt;/b&gt;" in text


def test_a_comment_says_what_to_do_next(found, tmp_path):
    baseline = record.record(found, "small-r")
    fast = made.several(tmp_path, "fast", speeds=[130.0, 130.1, 129.9, 130.2, 129.8])
    noisy = made.several(tmp_path, "noisy", speeds=(70, 120, 95, 60, 110))
    for runs, said in ((fast, "To make this the baseline: `harness baseline record "),
                       (noisy, "run again, and check all the runs together")):
        assert said in result_formats.of_check(gate.check(runs, baseline), runs, "markdown-pr")


def test_runs_of_one_name_that_are_not_alike_are_told_apart(found, tmp_path):
    other = made.run(tmp_path / "other", speed=50.0)
    made.edit_json(other.directory / "run.json", digest="0" * 64)
    names = [group.name for group in result_formats.groups([*found, *result_formats.runs.find(
        [str(other.directory)])])]
    assert len(set(names)) == 2 and names[1].startswith("small-00000000-")


def test_the_robots_entry_of_the_page_runs(features, tmp_path):
    """test_tipc/benchmark_train.sh, as docs/formats.md has it."""
    page = (ROOT / "docs/formats.md").read_text()
    (script,) = re.findall(r"^    #!/bin/bash\n(?:(?: {4}.*)?\n)+", page, re.M)
    (tmp_path / "benchmark_train.sh").write_text(textwrap.dedent(script))
    config = fixtures.write_tiny_config(tmp_path / "tiny.toml")
    done = subprocess.run(
        ["bash", "benchmark_train.sh", config, "8", "fp32", "DP", "N1C1", "6", features],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
    )
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "index/tiny_bs8_fp32_DP_N1C1").read_text().splitlines()
    found = json.loads(line)
    assert (found["batch_size"], found["device_num"]) == (8, "N1C1") and found["ips"] > 0
    log = (tmp_path / "log/tiny_bs8_fp32_DP_N1C1.log").read_text()
    assert "loss:" in log


def test_both_commands_print_it(found, tmp_path):
    directories = [run.directory for run in found]
    done = harness("report", *directories, "--format", "bmf")
    assert (done.returncode, done.stdout) == (0, told(found, "bmf"))
    record.save(record.record(found, "small-r"), folder=tmp_path)
    done = harness("check", *directories, "--baseline", "small-r", "--dir", tmp_path,
                   "--format", "junit")
    assert done.returncode == 0, done.stderr
    (suite,) = junitparser.JUnitXml.fromstring(done.stdout.encode())
    assert suite.name == "gate small-r" and suite.failures == 0 and len(suite) > 3
    done = harness("check", *directories, "--baseline", "small-r", "--dir", tmp_path,
                   "--format", "markdown-pr")
    assert done.returncode == 0 and "### ✅ passed" in done.stdout

"""Nights as the nightly script keeps them, and as they were kept before runners had a folder."""

from __future__ import annotations

import json
import shutil

import pytest

from baselines import check_table, gate, metrics, nightly, record
from baselines.nights import kept_nights
from harness.base.errors import DataError, NewerFile, UsageError
from tests import file_schemas
from tests.baselines import made
from tests.baselines.test_nightly import night_in
from tests.reports import fabricate


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A history with one night of the runner `r`, and the runs that it was kept from."""
    root = tmp_path_factory.mktemp("kept")
    runs = made.several(root / "runs", "small-")
    baseline = record.record(runs, "small-r")
    report = gate.check(runs, baseline)
    (root / "checks").mkdir()
    (root / "checks/small.json").write_text(json.dumps(check_table.document(report)))
    nightly.keep(night_in(root, link="https://ci.example.org/7"), "2026-11-22")
    return root / "history", runs


@pytest.fixture
def history(kept, tmp_path):
    return shutil.copytree(kept[0], tmp_path / "history")


def test_a_night_is_what_its_runs_and_its_check_say(kept, history):
    (night,) = kept_nights.read(history)
    assert (night.night, night.runner, night.report) == (
        "2026-11-22", "r", "https://ci.example.org/7")
    (cell,) = night.cells
    assert (cell["config"], cell["outcome"], cell["kernels"]) == ("small", "passed", "fused")
    runs = kept[1]
    for key, value in metrics.measure(runs[0], made.STEPS).values.items():
        one = cell["metrics"][key]
        assert one["values"][0] == pytest.approx(value.value, rel=1e-5)
        assert len(one["values"]) == 5 and one["verdict"] == "same" and one["baseline"] > 0
    assert cell["metrics"]["throughput"]["noise"] > 0
    assert cell["metrics"]["loss_bits"] == {"values": [], "verdict": "same"}
    assert night.stacks[cell["stack"]] == runs[0].info["fingerprint"]
    for name in ("night.json", "checks/small.json", "figures.json"):
        file_schemas.check(history / "2026-11-22/r" / name)


def test_a_check_is_of_the_runs_that_it_names(history):
    fabricate.run(history / "2026-11-22/r/other", steps=20, kernels="paddle")
    (night,) = kept_nights.read(history)
    assert {cell["kernels"]: cell["outcome"] for cell in night.cells} == {
        "fused": "passed", "paddle": None}


def test_a_night_is_read_once(history):
    first = kept_nights.read(history)
    folder = history / "2026-11-22/r"
    for path in folder.glob("small-*/timing.jsonl"):
        path.write_text("broken\n")
    again = kept_nights.read(history)
    # In the order of their keys too, which is that of what pages list.
    assert json.dumps([vars(one) for one in again]) == json.dumps([vars(one) for one in first])
    # Another run: all is read anew.
    shutil.copytree(folder / "small-0", folder / "small-9")
    with pytest.raises(DataError, match="timing.jsonl"):
        kept_nights.read(history)


def test_a_night_that_is_gone_on_with_is_read_anew(kept, tmp_path):
    runs = made.several(tmp_path / "runs", "small-")
    night = night_in(tmp_path)
    nightly.keep(night, "2026-11-22")
    (before,) = kept_nights.read(night.history)
    made.edit_lines(runs[0].timing_file, lambda line: {**line, "peak_host_bytes": 10**10})
    nightly.keep(night, "2026-11-22")
    (after,) = kept_nights.read(night.history)
    values = [one.cells[0]["metrics"]["host_memory"]["values"][0] for one in (before, after)]
    assert values[0] < values[1] == 10**10


def test_nights_of_before_runners_had_folders_are_read_too(history):
    for seed in (1, 2):
        fabricate.run(history / f"2026-11-21/small-{seed}", steps=20, kernels="paddle")
    fabricate.run(history / "2026-11-22/small-0", steps=20)  # beside a runner's folder
    nights = kept_nights.read(history)
    device = f"1 x {fabricate.CPU}"
    assert [(one.night, one.runner) for one in nights] == [
        ("2026-11-21", device), ("2026-11-22", device), ("2026-11-22", "r")]
    cell = nights[0].cells[0]
    assert len(cell["metrics"]["throughput"]["values"]) == 2 and cell["outcome"] is None
    assert kept_nights.read(history) == nights


def test_what_is_no_night_is_left_alone(history):
    (history / ".git/objects").mkdir(parents=True)
    assert len(kept_nights.read(history)) == 1
    assert [path.name for path in (history / ".git").iterdir()] == ["objects"]


def test_an_evaluation_after_the_last_logged_step_counts(history):
    for path in history.glob("2026-11-22/r/small-*/metrics.jsonl"):
        path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    (night,) = kept_nights.read(history)
    assert night.cells[0]["metrics"]["fid/coco-ddim50"]["values"] == [20] * 5


def test_a_history_that_may_only_be_read_is_read(history, monkeypatch):
    from harness.base.errors import EnvironmentFault

    def full(path, data):
        raise EnvironmentFault("read-only")

    monkeypatch.setattr(kept_nights.files, "atomic_write_bytes", full)
    assert len(kept_nights.read(history)) == 1
    assert not (history / "2026-11-22/r/figures.json").exists()


@pytest.mark.parametrize("name, change, error", [
    ("figures.json", {"schema": 2}, NewerFile),
    ("figures.json", {"cells": [{}]}, DataError),
    ("figures.json", {"stacks": [1]}, DataError),
    ("figures.json", {"stacks": [{"package.paddlepaddle": 3}]}, DataError),
    ("figures.json", {"runner": None}, DataError),
    ("night.json", {"schema": 2}, NewerFile),
    ("night.json", {"runner": 7}, DataError),
    ("checks/small.json", {"schema": 2}, NewerFile),
    ("checks/small.json", {"verdicts": 7}, DataError),
    ("checks/small.json", {"runs": None}, DataError),
    ("checks/small.json", {"verdicts": [{}]}, DataError),
    ("checks/small.json", {"verdicts": [{"metric": "fid", "change": "x"}]}, DataError),
    ("checks/small.json", {"outcome": []}, DataError),
])
def test_files_that_are_not_as_they_were_written_are_named(history, name, change, error):
    if name == "figures.json":
        kept_nights.read(history)
    made.edit_json(history / "2026-11-22/r" / name, **change)
    with pytest.raises(error, match="2026-11-22/r"):
        kept_nights.read(history)


@pytest.mark.parametrize("one", [
    {"values": [float("inf")]}, {"values": [10**400]}, {"values": ["1"]}, {"values": 7},
    {"values": [True]}, {"values": [], "noise": "x"}, {"values": [], "verdict": 1},
    {"values": [], "conditions": {"throttled_share": None}}, 7,
])
def test_a_metric_that_is_none_is_found(one):
    assert kept_nights._sound_metric({"values": [1, 2.5], "noise": 0.1})
    assert not kept_nights._sound_metric(one)


def test_a_folder_without_nights_is_a_usage_error(tmp_path):
    (tmp_path / "2026-11-22").mkdir()
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="holds no nights"):
            kept_nights.read(folder)

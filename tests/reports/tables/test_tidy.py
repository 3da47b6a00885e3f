"""The tidy frame that people take into a notebook."""

from __future__ import annotations

import json
import math

import pytest

import reports
from harness.base.errors import UsageError
from tests.reports import fabricate


def test_one_row_per_run_step_and_metric(tmp_path):
    runs = fabricate.pair(tmp_path)
    frame = reports.load(runs)
    keys = ["run", "step", "metric", "protocol_digest"]
    assert not frame.duplicated(keys).any() and frame["value"].notna().all()
    loss = frame[(frame["run"] == "small") & (frame["metric"] == "loss")]
    lines = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert list(loss["step"]) == [line["step"] for line in lines]
    assert list(loss["value"]) == [float.fromhex(line["loss_hex"]) for line in lines]
    wide = frame[frame["metric"] == "fid"].pivot(index="step", columns="run", values="value")
    assert list(wide.index) == [0, 50, 100, 200] and list(wide.columns) == ["small", "small_deep"]
    fid = frame[(frame["metric"] == "fid") & (frame["step"] == 200)]
    assert (fid["low"] < fid["value"]).all() and (fid["n_samples"] == 30_000).all()


def test_device_hours_count_every_device(tmp_path):
    one = fabricate.run(tmp_path / "one")
    two = fabricate.run(tmp_path / "two", world_size=2)
    frame = reports.load([one, two])
    hours = frame.groupby("run", observed=True)["device_hours"].max()
    assert math.isclose(hours["two"], 2 * hours["one"], rel_tol=1e-12)


def test_takes_one_path_text_or_run_and_names_twins_apart(tmp_path):
    from harness import runs

    first = fabricate.run(tmp_path / "a" / "same", steps=20)
    second = fabricate.run(tmp_path / "b" / "same", steps=20)
    assert set(reports.load(str(first))["run"]) == {"same"}
    both = reports.load([runs.load(first), second, str(first)])
    assert set(both["run"]) == {"a/same", "b/same"}


def test_a_run_without_lines_gives_an_empty_frame_of_the_same_columns(tmp_path):
    empty = reports.load(fabricate.run(tmp_path / "empty", steps=0))
    full = reports.load(fabricate.run(tmp_path / "full", steps=20))
    assert len(empty) == 0 and list(empty.columns) == list(full.columns)


def test_what_is_not_a_run_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="not a run"):
        reports.load(tmp_path)

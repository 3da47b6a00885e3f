"""Runs on several devices beside the run of the same config on one."""

from __future__ import annotations

import json
import math

import pytest

from reports import build
from tests.reports import fabricate

FIXED = ("train.reduction=fixed-order",)


def on(directory, devices, speed, *, later=None, **options):
    """A run that logs its devices as training does; `later` from the middle on."""
    run = fabricate.run(directory, images_per_second=speed, **options)
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["devices"] = later if later and number > len(lines) // 2 else devices
        line["communication_share"] = 0.25 if devices > 1 else None
    fabricate.write_lines(run / "timing.jsonl", lines)
    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("scaling")
    return build.build([
        # Their fingerprints leave the number of devices out: the order is fixed.
        on(root / "one", 1, 100.0, sets=FIXED),
        on(root / "four", 4, 320.0, sets=FIXED),
        on(root / "moved", 4, 320.0, later=2, sets=FIXED),
        on(root / "fast-four", 4, 380.0, world_size=4),
        on(root / "other-machine", 2, 150.0, sets=FIXED, device="another"),
    ])


@pytest.fixture(scope="module")
def rows(report):
    return report.tables["comparison"].set_index("run")


def test_efficiency_is_per_device_speed_over_that_of_the_run_on_one(rows):
    one, four = rows.loc["one"], rows.loc["four"]
    assert four["devices"] == 4 and four["communication_share"] == pytest.approx(0.25)
    expected = four["images_per_second"] / 4 / one["images_per_second"]
    assert four["scaling_efficiency"] == pytest.approx(expected) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("run", ["one", "moved", "fast-four", "other-machine"])
def test_there_is_none_without_a_run_on_one_to_set_it_against(rows, run):
    assert math.isnan(rows.loc[run]["scaling_efficiency"])


def test_every_device_s_hours_count_where_their_number_changed(rows):
    assert 2 < rows.loc["moved"]["device_hours"] * 3600 / (200 * 256 / 320.0) < 4


def test_speed_per_device_is_of_the_devices_of_each_stretch(tmp_path):
    run = on(tmp_path / "run", 4, 400.0, later=1, device="NVIDIA A100-SXM4-80GB")
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    for line in lines:
        if line["devices"] == 1 and line["steps_timed"]:
            line["images_per_second"] /= 4
            line["seconds"] *= 4
    fabricate.write_lines(run / "timing.jsonl", lines)
    row = build.build(run).tables["comparison"].iloc[0]
    assert row["images_per_second_per_device"] == pytest.approx(100.0, rel=0.02)
    flops = 3e9 * row["gflops_per_image"] * row["images_per_second_per_device"]
    assert row["mfu"] == pytest.approx(flops / 156e12)


def test_job_speed_on_another_number_of_devices_takes_no_ratio(report):
    apart = report.tables["not_like_for_like"]
    reasons = apart[(apart["run"] == "four") & (apart["figure"] == "images_per_second")]["reason"]
    assert "world_size 4 against 1" in reasons.iloc[0]
    ratio = report.tables["ratios"].set_index("run").loc["four"]
    assert ratio["images_per_second_per_device"] == pytest.approx(0.8, abs=0.02)


def test_the_report_says_it(report):
    text = build.contents(report)["report.md"].decode()
    assert "Scaling" in text and "Communication" in text

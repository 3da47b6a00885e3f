"""What a card did while a run trained, in the comparison."""

import json

import pytest

from reports.reading import run_records
from reports.tables import columns
from tests.reports import fabricate


def test_energy_is_over_images_and_shares_are_over_time(tmp_path):
    run = fabricate.run(tmp_path / "run", images_per_second=100.0)
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines[2:]):  # the first were too short to be read
        hot = number % 2
        line |= {"watts": 250.0 + 100.0 * hot, "throttled_share": float(hot), "others_share": 0.0}
    fabricate.write_lines(run / "timing.jsonl", lines)
    (record,) = run_records.read(run)
    row = columns.summarise(record)
    told = [line for line in lines if "watts" in line]
    seconds = sum(line["seconds"] for line in told)
    images = sum(line["images_per_second"] * line["seconds"] for line in told)
    joules = sum(line["watts"] * line["seconds"] for line in told)
    assert row["joules_per_image"] == pytest.approx(joules / images)
    hot = sum(line["seconds"] for line in told if line["throttled_share"])
    assert row["throttled_share"] == pytest.approx(hot / seconds)
    assert row["others_share"] == 0.0


def test_of_a_run_that_does_not_tell_nothing_is_said(tmp_path):
    (record,) = run_records.read(fabricate.run(tmp_path / "run"))
    row = columns.summarise(record)
    assert all(row[key] != row[key] for key in ("joules_per_image", "throttled_share"))

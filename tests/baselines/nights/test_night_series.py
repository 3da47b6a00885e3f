"""Series over nights: kept apart by what must not be compared, and where they changed."""

from __future__ import annotations

import pytest

from baselines.nights import kept_nights, night_series
from tests.baselines.nights import made_nights

NIGHTS = 60


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return kept_nights.read(made_nights.history(
        tmp_path_factory.mktemp("series"), nights=NIGHTS, configs=("a", "b", "c", "d"),
        runners=("a100", "cpu")))


def test_a_slowdown_is_found_on_its_night_between_its_commits(nights):
    every = night_series.of(nights)
    assert [(one.config, one.runner) for one in every] == [
        (config, runner) for config in "abcd" for runner in ("a100", "cpu")]
    for series in every:
        late = "abcd".index(series.config) % 3
        by_metric = {one.metric: one for one in series.changes}
        assert set(by_metric) == {"throughput", "fid/coco-ddim50"}
        change = by_metric["throughput"]
        assert (change.last, change.first) == (NIGHTS // 2 - 1 + late, NIGHTS // 2 + late)
        assert change.after / change.before == pytest.approx(0.94, abs=0.005)
        assert set(change.also) == set("abcd") - {series.config}
        assert series.stack_differences(change.last, change.first) == {}
        stack = series.stack_differences(NIGHTS * 2 // 3 - 1, by_metric["fid/coco-ddim50"].first)
        assert stack["package.paddlepaddle"] == ("2.6.2", "3.3.1")
        assert (series.stack_label(0), series.stack_label(-1)) == ("paddle2.6", "paddle3")


def test_nights_without_a_metric_are_no_part_of_its_series(nights):
    cut = [one for one in nights if one.runner == "cpu"]
    for night in cut[10:20]:
        night.cells[0]["metrics"].pop("throughput")
    series = night_series.of(cut)[0]
    at, medians = series.medians("throughput")
    assert at == [*range(10), *range(20, NIGHTS)] and len(medians) == NIGHTS - 10
    (change,) = (one for one in series.changes if one.metric == "throughput")
    assert (change.last, change.first) == (NIGHTS // 2 - 1, NIGHTS // 2)


def test_other_kernels_digests_and_devices_are_other_series(nights):
    (one,) = (night for night in nights if night.night == made_nights.date(0)
              and night.runner == "a100")
    cell = one.cells[0]
    for key in ("kernels", "digest", "device"):
        one.cells.append({**cell, key: "another"})
    assert len([s for s in night_series.of([one]) if s.config == "a"]) == 4

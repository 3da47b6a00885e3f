"""What charts are drawn from: thinning, the frontier, what stays out of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import build
from reports.output import page_charts, thinning
from reports.reading import run_records
from tests.reports import fabricate

numbers = st.integers(-20, 20).map(float)


@given(st.lists(st.tuples(numbers, numbers), max_size=25), st.sampled_from([1, -1]))
def test_frontier_is_exactly_the_points_that_none_dominates(points, better):
    def beats(a, b):
        return a[0] >= b[0] and better * a[1] >= better * b[1] and a != b

    expected = sorted({p for p in points if not any(beats(q, p) for q in points)})
    assert page_charts.efficient(points, better) == expected


@pytest.mark.parametrize("points", [7, 100, 333])
def test_thinning_keeps_mean_and_ends_within_a_bucket(tmp_path, points):
    run = fabricate.run(tmp_path / "run", steps=1000, log_steps=1)
    record = run_records.read(run)[0]
    curve = thinning.training(record, "loss", points)
    assert len(curve.values) <= points
    sizes = np.diff([*range(0, 1000, curve.lines), 1000])
    assert np.average(curve.values, weights=sizes) == pytest.approx(record.column("loss").mean())
    assert curve.steps[0] <= curve.lines and curve.steps[-1] > 1000 - curve.lines
    whole = thinning.training(record, "loss", 1000)
    np.testing.assert_array_equal(whole.values, record.column("loss"))


def test_runs_not_like_for_like_are_grey_and_outside_the_frontier(tmp_path):
    runs = fabricate.pair(tmp_path)
    other = fabricate.run(
        tmp_path / "v100", "small", device="Tesla V100-SXM2-32GB", images_per_second=500.0
    )
    fabricate.evaluate(other, 200, {"fid": 1.0})
    made = page_charts.scatter_charts(build.build([*runs, other]))
    chart = next(c for c in made if c["key"].startswith("fid ["))
    grey = {p["name"]: p["apart"] for p in chart["points"] if p["apart"]}
    assert set(grey) == {"v100"} and "Tesla V100" in grey["v100"]
    # The V100 run is made up to be faster and better than both; the frontier ignores it.
    assert [y for _, y in chart["frontier"]] == [13.25, 15.25]


def test_runs_that_differ_by_seed_get_a_mean_with_a_band(tmp_path):
    runs = [fabricate.run(tmp_path / f"s{s}", seed=s) for s in (1, 2, 3)]
    found = run_records.read(runs)
    chart = page_charts.curve_charts(build.build(runs))[0]
    mean = next(s for s in chart["series"] if "mean of 3 seeds" in s["name"])
    stacked = np.stack([record.column("loss") for record in found])
    np.testing.assert_allclose(mean["y"], stacked.mean(axis=0), rtol=1e-5)
    width = np.array(mean["high"]) - np.array(mean["low"])
    np.testing.assert_allclose(width, 2 * stacked.std(axis=0, ddof=1), rtol=1e-2, atol=1e-5)

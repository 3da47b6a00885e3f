"""Figures over nights: series are kept apart, changes are found where they are."""

from __future__ import annotations

import numpy as np
import pytest

from harness.base.errors import UsageError
from reports import build
from reports.tables import changepoints, history
from tests.reports import fabricate


def test_one_level_has_few_false_changes_and_a_step_is_found_in_its_place():
    rng = np.random.default_rng(3)
    false = sum(
        bool(changepoints.find(100 + 5 * rng.standard_normal(30))) for _ in range(200)
    )
    assert false <= 6  # tested at 1 %
    found = 0
    for _ in range(50):
        values = 100 + 2 * rng.standard_normal(30)
        values[18:] *= 0.93
        found += any(abs(change.index - 18) <= 1 for change in changepoints.find(values))
    assert found >= 45


def test_permutations_that_are_not_drawn_would_have_said_the_same():
    rng = np.random.default_rng(5)
    for n in (9, 40, 300):
        for step in (1.0, 1.01, 1.02, 1.2):
            values = 100 + rng.standard_normal(n)
            values[n // 2:] *= step
            gain = changepoints._best(values[None, :])[1][0]
            drawn = np.random.default_rng(n).permuted(np.tile(values, (999, 1)), axis=1)
            reached = (changepoints._best(drawn)[1] >= gain * (1 - 1e-9)).sum()
            said = changepoints._by_chance(values, gain, np.random.default_rng(n))
            if reached < 10:
                assert said == (1 + reached) / 1000
            else:
                assert 0.01 < said <= (1 + reached) / 1000


def test_two_steps_are_two_changes_with_their_levels():
    values = np.repeat([10.0, 12.0, 9.0], 8) + np.tile([0.1, -0.1], 12)
    first, second = changepoints.find(values)
    assert (first.index, second.index) == (8, 16)
    assert (first.before, first.after, second.after) == pytest.approx((10.0, 12.0, 9.0))


def test_constant_and_short_series_have_no_change():
    assert changepoints.find(np.ones(40)) == [] and changepoints.find(np.arange(7.0)) == []


@pytest.fixture
def nights(tmp_path):
    folder = tmp_path / "history"
    for night in range(1, 13):
        speed = 100.0 if night < 7 else 80.0
        name = f"2026-11-{night:02d}"
        for seed in (1, 2):
            fabricate.run(
                folder / name / f"runs-{seed}", steps=40, seed=seed,
                images_per_second=speed * (1 + 0.004 * ((night * 7 + seed * 3) % 5)),
            )
        fabricate.run(folder / name / "deep", "small_deep", steps=20, images_per_second=50)
    return folder


def test_history_finds_the_night_of_a_slowdown_and_joins_runs_of_a_night(nights, tmp_path):
    found = history.read(nights)
    speed = found.figures[found.figures["figure"] == "images_per_second"]
    assert set(speed["config"]) == {"small", "small_deep"}
    assert (speed[speed["config"] == "small"]["n"] == 2).all() and len(speed) == 24
    changes = found.changes[found.changes["figure"] == "images_per_second"]
    assert list(changes["night"]) == ["2026-11-07"] and list(changes["config"]) == ["small"]
    assert changes["ratio"].iloc[0] == pytest.approx(0.8, rel=0.02)
    made = build.contents(build.build(fabricate.run(tmp_path / "now"), history=nights))
    assert b"2026-11-07" in made["changes.csv"] and b'"kind":"history"' in made["report.html"]


def test_nights_of_other_kernels_are_another_series(tmp_path):
    for night, kernels in enumerate(("fused", "paddle")):
        fabricate.run(tmp_path / "h" / f"2026-11-{night:02d}" / "r", kernels=kernels)
    found = history.read(tmp_path / "h").figures
    assert set(found[found["figure"] == "step_ms"]["kernels"]) == {"fused", "paddle"}


def test_a_history_without_nights_is_a_usage_error(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="holds no nights"):
            history.read(folder)

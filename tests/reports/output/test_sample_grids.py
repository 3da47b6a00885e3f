"""Sample sheets: cut as they were put together, chosen within a size."""

from __future__ import annotations

import numpy as np
import pytest

from eval.sampling import image_grid
from reports.output import sample_grids
from reports.reading import run_records
from tests.reports import fabricate


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 3), (10, 10), (7, None)])
def test_tiles_are_the_images_that_the_sheet_was_made_of(tmp_path, count, columns):
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    prompts = [f"prompt {i}" for i in range(count)]
    image_grid.save_grid(images, tmp_path / "sheet.png", columns=columns, prompts=prompts)
    sheet = sample_grids.read(tmp_path / "sheet.png")
    assert list(sheet.prompts) == prompts
    np.testing.assert_array_equal(np.stack([np.asarray(t) for t in sheet.tiles()]), images)


def test_a_sheet_that_does_not_say_how_it_is_cut_has_no_tiles(tmp_path):
    image_grid.save_grid(np.zeros((4, 8, 8, 3), np.uint8), tmp_path / "sheet.png")
    assert sample_grids.read(tmp_path / "sheet.png").tiles() == []


def test_many_runs_and_steps_stay_within_the_budget_and_say_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_grids, "_BUDGET", 150_000)
    runs = [fabricate.run(tmp_path / f"r{i}", steps=10, seed=i) for i in range(14)]
    for run in runs:
        for step in range(0, 100, 5):
            fabricate.samples(run, step, noise=0.9, columns=8)
    found = run_records.read(runs)
    shown = sample_grids.for_page(sample_grids.find(found), [r.label for r in found])[0]
    size = sum(len(uri) for by_step in shown.images.values() for uri in by_step.values())
    assert size < 1.5 * 150_000 and len(shown.images) == 12
    assert shown.steps[0] == 0 and shown.steps[-1] == 95
    assert "2 of 14 runs" in shown.left_out and "of 20 steps" in shown.left_out

"""A report over as many runs and lines as the project promises; how long it takes is printed."""

from __future__ import annotations

import time

import pytest

from reports import build
from tests.reports import fabricate

RUNS, LINES = 200, 10_000


@pytest.mark.slow
def test_two_hundred_runs_of_ten_thousand_lines_fit_in_fifteen_megabytes(tmp_path, capsys):
    first = fabricate.run(tmp_path / "run-000", steps=50 * LINES, log_steps=50)
    logs = {name: (first / name).read_bytes() for name in ("metrics.jsonl", "timing.jsonl")}
    runs = [first]
    for i in range(1, RUNS):
        runs.append(fabricate.run(
            tmp_path / f"run-{i:03d}", ("small", "small_deep", "mid", "large")[i % 4],
            seed=i, steps=0,
        ))  # fmt: skip
        for name, content in logs.items():
            (runs[-1] / name).write_bytes(content)
    for i, run in enumerate(runs):
        for step in range(0, 50 * LINES + 1, 100_000):
            fabricate.evaluate(run, step, {"fid": 5 + i / 50, "val_loss": 0.1, "kid": 0.01})
            fabricate.samples(run, step, noise=0.9, columns=10)
    began, busy = time.perf_counter(), time.process_time()
    path = build.write(build.contents(build.build(runs)), tmp_path / "out")
    with capsys.disabled():
        spent = time.perf_counter() - began, time.process_time() - busy
        print(f"\n{RUNS} runs x {LINES} lines: {spent[0]:.1f} s, {spent[1]:.1f} s of CPU time")
    assert path.stat().st_size < 15_000_000
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 1 + RUNS

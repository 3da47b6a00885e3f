"""A report over runs: built and written, against plain pandas reading the same files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.options import Options
from tests.bench.rows import Growth, Row, faster
from tests.bench.worker import Worker

PART = "report"


def rows(options: Options) -> Iterator[Row | Growth]:
    """A dozen runs against pandas; then growth with the number of runs."""
    counts = [1, 2] if options.quick else [2, 4, 8, 16, 32]
    lines = 5 if options.quick else 2_000
    middle = counts[len(counts) // 2]
    with options.folder() as folder, Worker(
        "tests.bench.bench_report:Reports", threads=options.threads, folder=str(folder),
        runs=counts[-1], lines=lines,
    ) as worker:
        told = [(worker.ours(runs=middle), worker.pandas(runs=middle))
                for _ in range(options.rounds + options.warm)][options.warm :]
        yield faster(PART, f"report of {middle} runs of {lines} lines", "pandas reading the lines",
                     *map(list, zip(*told, strict=True)))
        seconds = [min(worker.ours(runs=count) for _ in range(2)) for count in counts]
    yield Growth(PART, "runs", counts, seconds, "s")


class Reports:
    """Made-up runs."""

    def __init__(self, folder: str, runs: int, lines: int):
        from tests.reports import fabricate

        self.folder = Path(folder)
        self.runs = [
            fabricate.run(
                self.folder / f"run-{i:03d}", ("small", "small_deep", "mid", "large")[i % 4],
                seed=i, steps=50 * lines, log_steps=50,
            )
            for i in range(runs)
        ]
        for run in self.runs:
            fabricate.evaluate(run, 50 * lines, {"fid": 5.0, "val_loss": 0.1})

    def ours(self, runs: int) -> float:
        """Seconds from run directories to Markdown, CSV and the page."""
        from reports import build

        began = time.perf_counter()
        build.write(build.contents(build.build(self.runs[:runs])), self.folder / "out")
        return time.perf_counter() - began

    def pandas(self, runs: int) -> float:
        """Seconds of pandas.read_json of the same runs' lines, and a mean of each column."""
        import pandas as pd

        began = time.perf_counter()
        for run in self.runs[:runs]:
            for name in ("metrics.jsonl", "timing.jsonl"):
                pd.read_json(run / name, lines=True).mean(numeric_only=True)
        return time.perf_counter() - began

"""Pages over 1,000 nights of 12 configs on 3 runners, as they are built every morning.

Each night's figures lie beside it already, as an earlier build left them: what a first build of a
night costs beside that is the growth. Seconds are of the processor: it is one thread, and waits for
nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.options import Options
from tests.bench.rows import Growth, Row, share
from tests.bench.worker import Worker

PART = "history"
SECONDS, BYTES = 10.0, 2e6


def rows(options: Options) -> Iterator[Row | Growth]:
    """Seconds and the largest page against what was asked for; then nights that are new."""
    nights = 10 if options.quick else 1000
    counts = [1, 2] if options.quick else [5, 10, 20, 40]
    with options.folder() as folder, Worker(
        "tests.bench.bench_history:Pages", threads=options.threads, folder=str(folder),
        nights=nights,
    ) as worker:
        told = [worker.build() for _ in range(options.rounds + options.warm)][options.warm :]
        seconds, largest = map(list, zip(*told, strict=True))
        name = f"{nights:,} nights of 12 configs on 3 runners"
        yield share(PART, f"pages of {name}", "10 s", seconds, [SECONDS] * len(told), target=1.0)
        yield share(PART, f"largest page with its figures, {name}", "2 MB", largest,
                    [BYTES] * len(told), unit="B", target=1.0)
        first = [worker.first(nights=count) for count in counts]
    yield Growth(PART, "nights of 2 configs, 5 runs each, read for the first time", counts, first,
                 "s")


class Pages:
    """A made-up history."""

    def __init__(self, folder: str, nights: int):
        from tests.baselines.nights import made_nights

        self.folder = Path(folder)
        self.history = made_nights.history(
            self.folder / "history", nights=nights, configs=made_nights.CONFIGS)

    def build(self) -> tuple[float, float]:
        """Processor seconds from the history to its pages, and the bytes of the largest."""
        from baselines.nights import page_files

        began = time.process_time()
        index = page_files.write(self.history, self.folder / "site")
        seconds = time.process_time() - began
        pages = index.parent.glob("*.html")
        sizes = [page.stat().st_size + page.with_suffix(".js").stat().st_size for page in pages]
        return seconds, float(max(sizes))

    def first(self, nights: int) -> float:
        """Processor seconds of the pages of nights that have light copies of runs alone."""
        from baselines.nights import page_files
        from tests.reports import fabricate

        history = self.folder / "new"
        shutil.rmtree(history, ignore_errors=True)
        for night in range(nights):
            for config in ("small", "small_deep"):
                for number in range(5):
                    fabricate.run(
                        history / f"night-{night:04d}" / f"{config}-{number}", config, steps=300)
        began = time.process_time()
        page_files.write(history, self.folder / "new-site")
        return time.process_time() - began

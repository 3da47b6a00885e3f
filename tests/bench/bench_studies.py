"""A study of a thousand cells: shown with its costs, and where each of them has come to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.bench_startup import seconds_of
from tests.bench.options import Options
from tests.bench.rows import Row, share

PART = "studies"
LIMIT = 2.0  # seconds


def rows(options: Options) -> Iterator[Row]:
    """`study show` and `study status`, whole commands, against the limit."""
    seeds = 1 if options.quick else 20
    with options.folder() as folder:
        path = _write(folder, seeds)
        study = [sys.executable, "-m", "harness", "study"]
        _begin(folder / "out", path)
        work = {"show": [*study, "show", str(path)], "status": [*study, "status", f"{folder}/out"]}
        told: dict[str, list[float]] = {name: [] for name in work}
        for number in range(options.rounds + options.warm):
            for name, command in work.items():
                seconds = seconds_of(command, options)
                if number >= options.warm:
                    told[name].append(seconds)
    for name, seconds in told.items():
        yield share(PART, f"harness study {name}, {50 * seeds:,} cells", f"{LIMIT:g} s", seconds,
                    [LIMIT] * len(seconds), target=1.0)


def _write(folder: Path, seeds: int) -> Path:
    """Five configs and ten variants, so many seeds each, two evaluations by two protocols."""
    configs = ["small", "small_deep", "mid", "large", "huge"]
    path = folder / "study.toml"
    variants = "".join(f'v{n} = ["optim.lr={n + 1}e-4"]\n' for n in range(10))
    path.write_text(f"""
name = "thousand"
question = "Which of a thousand?"
configs = {json.dumps(configs)}
seeds = {list(range(seeds))}
evaluate = [500000, 1000000]
[variants]
{variants}
[protocols.ddim]
protocol = "coco-ddim50"
[protocols.dpm]
protocol = "coco-dpm50"
""")
    return path


def _begin(directory: Path, path: Path) -> None:
    """Half of them done, a tenth at work, with logs of a thousand lines."""
    from harness.studies import study_directory as on_disk
    from harness.studies import study_file
    from harness.studies.study_directory import State

    study = study_file.load(path)
    on_disk.begin(directory, study)
    metrics = "".join(f'{{"step": {n}, "loss": 0.5}}\n' for n in range(1, 1001))
    timing = "".join(f'{{"step": {n}, "images_per_second": 100.0}}\n' for n in range(1, 1001))
    for number, one in enumerate(study.cells()):
        if number % 2:
            on_disk.note(directory, one.id, State(1, 0))
        elif number % 10 == 0:
            on_disk.note(directory, one.id, State(1, process=on_disk.this_process()))
            run = on_disk.run_directory(directory, one.id)
            run.mkdir(parents=True)
            (run / "metrics.jsonl").write_text(metrics)
            (run / "timing.jsonl").write_text(timing)

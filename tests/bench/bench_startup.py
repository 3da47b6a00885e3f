"""How long commands take to begin: processes of their own, from the shell's point of view.

The first training step is that of `small` at batch 4, done when its line is in metrics.jsonl; the
process is killed then.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import fixtures
from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, share
from tests.bench.worker import ROOT, clean_environment

PART = "startup"
HELP_LIMIT, STEP_LIMIT = 0.3, 6.0  # seconds
PATIENCE = 600.0


def rows(options: Options) -> Iterator[Row]:
    """--help, config list, train --dry-run, and the first step."""
    from harness import configs

    sets = sides.settings(options, 4)
    section = configs.load("small", sets).model
    with options.folder() as folder:
        data = fixtures.write_features(
            folder / "data", images=8, channels=section.in_channels, size=section.sample_size,
            tokens=section.num_text_tokens, width=section.clip_dim,
        )
        train = ["train", "small", "--data", str(data), "--no-eval"]
        for value in sets:
            train += ["--set", value]
        harness = [sys.executable, "-m", "harness"]
        paddle = [sys.executable, "-c", "import paddle"]

        def timed(command: list[str]) -> Callable[[], float]:
            return lambda: seconds_of(command, options)

        work = {
            "help": timed([*harness, "--help"]),
            "list": timed([*harness, "config", "list"]),
            "plan": timed([*harness, *train, "--dry-run"]),
            "paddle": timed(paddle),
            "step": lambda: _first_step([*harness, *train], folder / "run", options),
        }
        told: dict[str, list[float]] = {name: [] for name in work}
        for number in range(options.rounds + options.warm):
            for name, measure in work.items():
                seconds = measure()
                if number >= options.warm:
                    told[name].append(seconds)
    count = len(told["help"])
    yield share(PART, "harness --help", f"{HELP_LIMIT} s", told["help"], [HELP_LIMIT] * count,
                target=1.0)
    yield share(PART, "harness config list", "import paddle", told["list"], told["paddle"])
    yield share(PART, "harness train --dry-run", "import paddle", told["plan"], told["paddle"])
    yield share(PART, "harness train small, first step done", f"{STEP_LIMIT:g} s", told["step"],
                [STEP_LIMIT] * count, target=1.0)


def seconds_of(command: list[str], options: Options) -> float:
    """Seconds that a command takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=clean_environment(options.threads), check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _first_step(command: list[str], run: Path, options: Options) -> float:
    shutil.rmtree(run, ignore_errors=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--output-dir", str(run)], cwd=ROOT, env=clean_environment(options.threads),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    metrics = run / "metrics.jsonl"
    try:
        while not (metrics.is_file() and metrics.read_bytes().endswith(b"\n")):
            waited = time.perf_counter() - began
            if process.poll() is not None or waited > PATIENCE:
                raise RuntimeError(f"no first step after {waited:.0f} s: {process.stderr.read()}")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()

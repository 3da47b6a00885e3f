"""`make soak`: train, evaluate, report, kill, resume for two hours, and nothing grows.

    python -m tests.soak [--for 2h] [--out soak]
    python -m tests.soak --steps 20000 [--out soak]

Goes on where it was stopped until it has worked as long as asked for, and writes OUT/soak.md after
each cycle. Exit code 3 if a slope rises; a broken promise is a traceback. --steps: instead one long
training of a tiny network, whose memory and descriptors stay what they are; OUT/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness.base.cpu_info import cpu_name
from tests.command import ROOT, environment
from tests.faults import cases
from tests.fixtures import write_features, write_tiny_config
from tests.soak import page, watching
from tests.soak.cycle import Cycles, seen
from tests.soak.slopes import slope


def seconds(text: str) -> float:
    """'90s', '10m', '2h' in seconds."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1:]]


def soak(out: Path, length: float) -> bool:
    """Cycles until they took `length` seconds together; whether nothing grew."""
    log, place = out / "cycles.jsonl", out / "place"
    cycles = seen(log)
    os.environ["SOAK"] = mark = str(place.resolve())
    os.environ["TMPDIR"] = str(place.resolve() / "tmp")
    (place / "tmp").mkdir(parents=True, exist_ok=True)
    (place / "warm").mkdir(exist_ok=True)
    with cases.server(place / "warm") as warm:
        work = Cycles(place, warm, mark)
        while sum(one["seconds"] for one in cycles) < length:
            one = work.one(len(cycles))
            assert not cycles or one["bits"] == cycles[0]["bits"], f"other bits in cycle {one}"
            cycles.append(one)
            with open(log, "a") as file:
                file.write(json.dumps(one) + "\n")
            (out / "soak.md").write_text(page.markdown(cycles, commit()))
    return not any(one.grows for one in page.quantities(cycles).values())


def training(out: Path, steps: int) -> bool:
    """One training of `steps` steps; whether memory, descriptors and threads stay as they are."""
    place = out / "training"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config, data = write_tiny_config(place / "tiny.toml"), write_features(place / "data")
    sets = [word for key, value in {"max_steps": steps, "save_steps": 500, "log_steps": 10}.items()
            for word in ("--set", f"train.{key}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "train", str(config), "--data", str(data),
         "--output-dir", str(place / "run"), *sets], env=environment(), cwd=ROOT)
    log, moments = place / "run" / "metrics.jsonl", []
    try:
        while process.poll() is None:
            now = watching.usage(process.pid)
            if now and now.bytes and log.exists():  # 0: it is ending
                moments.append(now)
            time.sleep(0.25)
    finally:
        process.kill()
    assert process.wait() == 0
    named = {"resident bytes": [one.bytes for one in moments],
             "descriptors": [one.descriptors for one in moments],
             "threads": [one.threads for one in moments]}
    rows = [f"# A training of {steps:,} steps, {len(moments):,} moments, {cpu_name()}", "",
            "| quantity | second tenth | last tenth | rise | |",
            "| --- | ---: | ---: | ---: | --- |"]
    flat = True
    for name, values in named.items():
        tenth = len(values) // 10
        found = slope(values[tenth:], share=0.01, absolute=0.0 if "bytes" in name else 0.9)
        assert found is not None, "too few moments"
        first, last = (sum(part) / len(part) for part in (values[tenth : 2 * tenth],
                                                          values[-tenth:]))
        grows = found.grows or last > 1.01 * first  # flat within a hundredth, by level too
        flat = flat and not grows
        rows.append(f"| {name} | {first:,.1f} | {last:,.1f} | {100 * (last / first - 1):+.2f} % | "
                    f"{'**grows**' if grows else ''} |")
    (out / "training.md").write_text("\n".join(rows) + "\n")
    return flat


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                          capture_output=True)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="length", type=seconds, default="2h")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    asked = parser.parse_args()
    try:
        good = training(asked.out, asked.steps) if asked.steps else soak(asked.out, asked.length)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(75)
    print((asked.out / ("training.md" if asked.steps else "soak.md")).read_text())
    sys.exit(0 if good else 3)


if __name__ == "__main__":
    main()

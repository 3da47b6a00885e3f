"""`make bench`: every part measured, one table of ratios, compared with the run before.

    python -m tests.bench [--only step] [--quick] [--out build/bench.json]
    python -m tests.bench --markdown

The JSON at --out is read before it is written: a row's ratio there is its `before`. With --only the
other parts' rows stay as they were. --markdown measures nothing: it prints what --out holds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from harness import files
from harness.base import fingerprint
from harness.base.cpu_info import cpu, cpu_name, mkl_cpu_type, mkl_path
from harness.doctor import examine
from tests.bench import rows, table
from tests.bench.options import Options

SCHEMA = 1
PARTS = (
    "step", "sampling", "overhead", "frechet", "inception", "features", "loading", "checkpoint",
    "report", "history", "memory", "planning", "startup", "studies", "reduction", "growth",
    "endtoend",
)
PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "ppdiffusers", "torch", "numpy")
DOCTOR = ("paddle", "gpu", "cuda library")  # findings that a GPU's figures depend on
GPU = "gpu"  # beside the others with --device gpu


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=(*PARTS, GPU), help="a part; may be repeated"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--markdown", action="store_true", help="print --out as a page has it")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    return parser.parse_args(arguments)


def measure(parts: list[str], options: Options) -> tuple[list[rows.Item], list[str]]:
    """(rows and growths of `parts`, names of parts that failed); told on stderr as they come."""
    found, failed = [], []
    for part in parts:
        began = time.perf_counter()
        try:
            for item in importlib.import_module(f"tests.bench.bench_{part}").rows(options):
                found.append(item)
                print(table.terminal([item], {}).splitlines()[-1], file=sys.stderr, flush=True)
        except Exception:
            traceback.print_exc()
            failed.append(part)
        print(f"== {part}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found, failed


def machine(options: Options) -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "cpu": cpu_name(), "threads": options.threads, "device": options.device,
        "mkl": mkl_path(mkl_cpu_type(cpu())),
        "commit": fingerprint.git_commit(), **{p: fingerprint.version(p) for p in PACKAGES},
    }


def gpu_lacks() -> str:
    """What `harness doctor` finds missing for a GPU, a line each; empty if nothing is."""
    found = [finding for finding in examine.examine() if finding.what in DOCTOR]
    return "\n".join(
        f"bench: {f.what}: {f.detail}; {f.remedy}" for f in found if f.status != "ok"
    )


def page(path: Path) -> str:
    """The results at `path` as Markdown, with the machine that they belong to."""
    document = files.read_json(path)
    on = document["machine"]
    day = time.strftime("%Y-%m-%d", time.gmtime(document["time"]))
    versions = ", ".join(f"{name} {on[name]}" for name in PACKAGES if on[name])
    head = (
        f"{on['cpu']}, {on['threads']} threads, device {on['device']}, paddle's products by "
        f"{on.get('mkl', 'a path not recorded')}; {versions}; {day}, {document['rounds']} rounds."
    )
    return f"{head}\n\n{table.markdown([rows.from_json(item) for item in document['items']])}"


def earlier(path: Path, options: Options) -> list[rows.Item]:
    """What this command wrote to `path`; nothing if it was of another schema, size or device."""
    if not path.is_file():
        return []
    document = files.read_json(path)
    like = (SCHEMA, options.quick, options.device)
    if (document["schema"], document["quick"], document["machine"]["device"]) != like:
        return []
    return [rows.from_json(item) for item in document["items"]]


def main(arguments: list[str]) -> int:
    """Measure, print, write; 1 if a part could not be measured."""
    chosen = parsed(arguments)
    if chosen.markdown:
        print(page(chosen.out))
        return 0
    options = Options(
        quick=chosen.quick, rounds=2 if chosen.quick else chosen.rounds, device=chosen.device
    )
    if options.device == "gpu" and (lacking := gpu_lacks()):
        print(lacking, file=sys.stderr)
        return 5
    known = (*PARTS, GPU) if options.device == "gpu" else PARTS
    parts = [part for part in known if part in (chosen.only or known)]
    old = earlier(chosen.out, options)
    before = {item.key: item.ratio for item in old if isinstance(item, rows.Row)}
    began = time.perf_counter()
    found, failed = measure(parts, options)
    print(table.terminal(found, before))
    seconds = time.perf_counter() - began
    print(f"{len(found)} results in {seconds:.0f} s; written to {chosen.out}", file=sys.stderr)
    kept = [item for item in old if item.part not in parts]
    items = sorted([*kept, *found], key=lambda item: (*PARTS, GPU).index(item.part))
    document = {
        "schema": SCHEMA, "time": time.time(), "seconds": seconds, "quick": options.quick,
        "rounds": options.rounds, "machine": machine(options),
        "items": [rows.to_json(item) for item in items],
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(document, indent=1) + "\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

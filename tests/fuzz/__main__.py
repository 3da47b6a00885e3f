"""`python -m tests.fuzz DOOR --seconds 60`: one door, guided by what of its reader has run.

atheris (libFuzzer) keeps whatever input reaches code that none before did. Prints one line of JSON:
door, inputs, edges (of the instrumented code) covered, kept inputs, finding. `make fuzzer` installs
it, for Python 3.11 and later; the file of a finding is left in the working directory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FUZZER = Path(sys.prefix) / "fuzzer"  # where `make fuzzer` puts it, beside the stack
sys.path.append(str(FUZZER))

# What is instrumented: ours, and the readers that ours are made of.
_OURS = ["harness", "models", "eval", "reports", "baselines"]
_MORE = ["pickle", "zipfile", "tarfile", "json", "tomllib", "numpy.lib.format"]
_MEMORY_MB = 1024  # libFuzzer measures the whole process, of which 300 MB are imports


def fuzz(name: str, place: Path, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    for module in ("pickle", "zipfile", "tarfile", "json", "json.decoder"):
        sys.modules.pop(module, None)  # imported by the interpreter or atheris, not instrumented
    with atheris.instrument_imports(include=[*_OURS, *_MORE], enable_loader_override=False):
        from tests.fuzz import door as one_door
        from tests.fuzz import doors
    from tests.fuzz import mutations

    door, change = doors.DOORS[name], mutations.FORMS[doors.DOORS[name].form]
    one_door.enter(door, place)
    seen = open(os.devnull, "w")
    sys.stderr = seen  # progress of commands; libFuzzer has the descriptor

    def changed(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.random() < 0.3:
            return door.repair(bytes(atheris.Mutate(data, most)))[:most]
        return door.repair(change(data, draw))[:most]

    atheris.Setup([sys.argv[0], *arguments], lambda data: one_door.knock(door, place, data),
                  custom_mutator=changed)
    atheris.Fuzz()


def run(name: str, seconds: int, corpus: Path) -> dict[str, object]:
    """Fuzz in a process of its own; what it found out. New inputs are added to `corpus`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, "--place", place, "--",
             f"-max_total_time={seconds}", "-timeout=20", f"-rss_limit_mb={_MEMORY_MB}",
             "-max_len=65536", "-print_final_stats=1", str(corpus)],
            capture_output=True, text=True, errors="replace")
    said = done.stderr + done.stdout
    numbers = re.findall(r"^stat::(\w+):\s+(\d+)", said, re.MULTILINE)
    covered = re.findall(r"cov: (\d+)", said)
    return {"door": name, "inputs": int(dict(numbers).get("number_of_executed_units", 0)),
            "edges": int(covered[-1]) if covered else 0, "kept": len(list(corpus.iterdir())),
            "finding": said[-3000:] if done.returncode else None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("door")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="where new inputs go; default: nowhere")
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.place:
        fuzz(arguments.door, arguments.place, rest[1:] if rest[:1] == ["--"] else rest)
    from tests.fuzz import doors, kept

    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(kept.inputs(arguments.door, doors.DOORS[arguments.door])):
            (corpus / f"seed{number:03d}").write_bytes(data)
        found = run(arguments.door, arguments.seconds, corpus)
    print(json.dumps(found))
    sys.exit(found["finding"] is not None)


if __name__ == "__main__":
    main()

"""`make bench`: every module bench_*.py of this folder, one after the other."""

import subprocess
import sys
from pathlib import Path

failed = []
for path in sorted(Path(__file__).parent.glob("bench_*.py")):
    print(f"== {path.stem}", flush=True)
    if subprocess.run([sys.executable, "-m", f"tests.bench.{path.stem}", *sys.argv[1:]]).returncode:
        failed.append(path.stem)
if failed:
    sys.exit(f"failed: {', '.join(failed)}")

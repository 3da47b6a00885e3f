"""Paddle's launcher leaves SIGTERM to the workers, and ends them when it is told to."""

import signal
import subprocess
import sys
import time

from harness.distributed import paddle_launcher
from tests.command import ROOT, environment

# Says what it got: nothing in the seconds after its launcher got SIGTERM, then the launcher's own.
WORKER = """
import os, pathlib, signal, sys, time
got = []
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(3)
print("alone" if not got else "ended", flush=True)
while not got:
    time.sleep(0.1)
print("told", flush=True)
"""


def test_sigterm_to_everybody_leaves_the_workers_their_time(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    log = tmp_path / "log" / "workerlog.0"
    process = subprocess.Popen(
        [sys.executable, "-m", paddle_launcher.__name__, "--log_dir", log.parent,
         tmp_path / "worker.py"], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while not (log.exists() and log.read_text()) and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) != 0
        assert log.read_text().split()[:2] == ["alone", "told"]
    finally:
        process.kill()

"""A program of ours after its command: its exit code stands."""

import subprocess
import sys

import pytest

from tests.command import ROOT

ENDS = {0: "lambda: None", 3: "lambda: sys.exit(3)"}


@pytest.mark.parametrize("code", ENDS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_when_the_command_has_ended_changes_nothing(name, code):
    """As seen in a soak: stopped between the last line and the process's end, it ended with 1."""
    script = f"""
import atexit, os, signal, sys
from harness.distributed import program
atexit.register(lambda: (os.kill(os.getpid(), signal.{name}), print("last")))
program.run({ENDS[code]})
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (code, "last\n", "")


def test_a_signal_that_a_callback_drops_is_heard_without_a_traceback():
    """As seen in a soak: SIGTERM while llvmlite called back wrote Python's 'Exception ignored'."""
    script = """
import ctypes, os, signal, time
from harness.distributed import program

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(10):
        time.sleep(0)

program.run(lambda: (callback(), time.sleep(60)))
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (process.returncode, process.stdout) == (75, "")
    assert process.stderr == "harness: SIGTERM: stopped; run the same command again\n"

"""Commands that a command of ours runs."""

import signal
import subprocess
import sys

import pytest

from harness.distributed import child_commands
from tests.command import ROOT, environment

# The child says when it has begun, takes a moment to end when it is asked to, and says so.
CHILD = """
import signal, sys, time
def asked(*_):
    time.sleep(0.5)
    open(sys.argv[1], "a").write("saved\\n")
    sys.exit(75)
signal.signal(signal.SIGTERM, asked)
open(sys.argv[1], "a").write("begun\\n")
for _ in range(600):
    time.sleep(0.1)  # not one long sleep: a signal just before it would be heard after it
"""
PARENT = """
import os, signal, sys, threading, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from harness.distributed import child_commands as children, program
said = Path(sys.argv[1])
def strike():
    while not said.exists() or not said.read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIG{name})
threading.Thread(target=strike, daemon=True).start()
def command():
    try:
        # As git does it: a child of a child.
        children.run(["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", {child!r}, sys.argv[1]])
    finally:
        print(said.read_text(), end="")
program.run(command)
"""


def test_output_and_exit_code_are_the_command_s():
    done = child_commands.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_interrupted_it_waits_for_all_that_the_command_started(tmp_path, name):
    process = subprocess.run(
        [sys.executable, "-c", PARENT.format(name=name, child=CHILD), tmp_path / "said"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=25,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.returncode == 75, process.stderr
    assert process.stdout == "begun\nsaved\n"

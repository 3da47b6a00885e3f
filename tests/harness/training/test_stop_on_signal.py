"""What a signal does around training: nothing that came is lost, and a second one ends at once."""

import subprocess
import sys

import pytest

from tests.command import ROOT, environment

# Runs `body` as a command of ours, and says what came of it.
SCRIPT = """
import signal, sys, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's tests ignore it
from harness.distributed import program
from harness.training.stop_on_signal import Stop, StopNow
class Thing:
    pass
def dropped():
    '''A signal comes within a callback, which drops what its handler raises.'''
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing
def command():
{body}
program.run(command)
"""


def ended(body):
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=indented)], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=25,
    )


def test_a_signal_that_a_callback_drops_cuts_an_evaluation_short_all_the_same():
    process = ended("""
with Stop() as stop:
    try:
        with stop.at_once():
            dropped()
            time.sleep(30)
    except StopNow:
        time.sleep(0.5)  # a checkpoint is written: nothing comes between
        print("saved")
""")
    assert (process.returncode, process.stdout) == (0, "saved\n"), process.stderr


def test_a_signal_that_was_dropped_before_is_heard_within():
    process = ended("""
dropped()
with Stop() as stop:
    end = time.monotonic() + 20
    while not stop.asked and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)
    print(stop.asked)
""")
    assert (process.returncode, process.stdout) == (0, "True\n"), process.stderr
    assert process.stderr.count("finishing this step, then saving") == 1


@pytest.mark.parametrize("second", ["TERM", "INT"])
def test_a_second_signal_ends_at_once(second):
    process = ended(f"""
with Stop() as stop:
    signal.raise_signal(signal.SIGTERM)
    print("a step", flush=True)
    signal.raise_signal(signal.SIG{second})
    print("never")
""")
    assert (process.returncode, process.stdout) == (75, "a step\n"), process.stderr


@pytest.mark.parametrize(
    "variables", [{"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "2"}, {"SLURM_STEP_ID": "0"}],
    ids=["a launcher's worker", "a process of a Slurm step"],
)
def test_who_is_sent_sigterm_several_times_hears_one(variables):
    process = ended(f"""
import os
os.environ |= {variables}
with Stop() as stop:
    for _ in range(2):
        signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.SIGTERM)  # while it takes leave of the others
print(stop.asked)
""")
    assert (process.returncode, process.stdout) == (0, "True\n"), process.stderr

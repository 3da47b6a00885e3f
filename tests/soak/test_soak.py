"""The soak finds what grows and lets noise pass; a short one goes its whole way."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.command import ROOT, environment
from tests.soak import __main__ as soak
from tests.soak import page, watching
from tests.soak.cycle import seen
from tests.soak.slopes import WARM_UP, slope


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_grow_and_a_leak_under_it_does(seed):
    noise = 500e6 + 5e6 * np.random.default_rng(seed).standard_normal(200)
    assert not slope(noise).grows
    assert slope(noise + 100e3 * np.arange(200)).grows  # 100 kB a cycle
    assert not slope(noise - 100e3 * np.arange(200)).grows


def test_one_odd_value_a_level_and_a_warm_up_are_no_slope():
    values = [10.0] * 40
    assert not slope(values, absolute=0.9, share=0).grows
    values[20] = 1000.0
    assert not slope(values, absolute=0.9, share=0).grows
    assert not slope([0.0] * WARM_UP + values, absolute=0.9, share=0).grows
    # A descriptor more in every tenth cycle.
    assert slope([10 + n // 10 for n in range(40)], absolute=0.9, share=0).grows
    assert slope([1.0] * 10) is None


def cycles(leak):
    return [{"cycle": n, "seconds": 3.0, "faults": ["train: killed, nothing"], "bits": "x",
             "train_bytes": 4e8, "train_descriptors": 12 + leak * n, "left_over": 0}
            for n in range(30)]


def test_the_page_names_what_grows():
    sound, leaking = page.markdown(cycles(0), "abc"), page.markdown(cycles(1), "abc")
    assert "**grows**" not in sound and "30 cycles in 0.03 h" in sound
    grown = [line for line in leaking.splitlines() if "**grows**" in line]
    assert len(grown) == 1 and grown[0].startswith("| train descriptors | ")
    assert "| train: killed, nothing | 30 |" in sound


def test_a_process_and_a_place_are_watched(tmp_path):
    mine = watching.usage(os.getpid())
    with open(os.devnull), open(os.devnull):
        assert watching.usage(os.getpid()).descriptors == mine.descriptors + 2
    (tmp_path / "a").write_bytes(bytes(7))
    (tmp_path / "log.jsonl").write_bytes(bytes(100))
    assert watching.files_below(tmp_path) == (1, 7)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                             env={**os.environ, "SOAK": str(tmp_path)})
    try:
        assert child.pid in watching.left_over(str(tmp_path), {os.getpid()})
    finally:
        child.communicate(b"\n")
    assert not watching.left_over(str(tmp_path), {os.getpid()})
    assert watching.usage(child.pid) is None


def test_lengths_are_read_and_a_torn_line_is_left_out(tmp_path):
    assert [soak.seconds(text) for text in ("90s", "10m", "2h")] == [90, 600, 7200]
    assert seen(tmp_path / "none") == []
    (tmp_path / "log").write_text('{"cycle": 0}\n{"cy')
    assert seen(tmp_path / "log") == [{"cycle": 0}]


@pytest.mark.slow
def test_a_short_soak_goes_on_where_it_was_stopped(tmp_path):
    for length in ("1s", "2m"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.soak", "--for", length, "--out", tmp_path], cwd=ROOT,
            env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    found = seen(tmp_path / "cycles.jsonl")
    assert [one["cycle"] for one in found] == list(range(len(found))) and len(found) > 1
    assert "cycles in" in (tmp_path / "soak.md").read_text()

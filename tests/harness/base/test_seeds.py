"""Randomness is a pure function of (seed, purpose, index)."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.base import seeds

SEEDS = st.integers(0, 2**63 - 1)


def draw(*key):
    return seeds.generator(*key).standard_normal(4).tobytes()


@given(SEEDS, st.text(max_size=8), st.lists(st.integers(0, 2**62), max_size=3))
def test_equal_keys_give_equal_streams(seed, purpose, index):
    assert draw(seed, purpose, *index) == draw(seed, purpose, *index)


@given(SEEDS, st.integers(0, 2**62))
def test_every_part_of_the_key_counts(seed, index):
    streams = {
        draw(seed, "noise", index), draw(seed ^ 1, "noise", index), draw(seed, "order", index),
        draw(seed, "noise", index + 1), draw(seed, "noise"), draw(seed, "noise", index, 0),
    }
    assert len(streams) == 6


def test_keys_cannot_run_into_each_other():
    assert seeds.key(1, "ab", 2) != seeds.key(1, "a", 2)
    assert seeds.key(1, "", 2) != seeds.key(1, "\x02\0\0\0\0\0\0\0")


def test_a_stream_is_the_same_in_another_process():
    code = ("from harness.base import seeds; "
            "print(seeds.generator(1234, 'sample', 7).standard_normal(4).tobytes().hex())")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == draw(1234, "sample", 7).hex()


def test_the_stream_is_the_documented_one():
    """Philox keyed by the digest's first 16 bytes; a change here would change every run."""
    words = np.frombuffer(seeds.key(1234, "sample", 7)[:16], "<u8")
    expected = np.random.Generator(np.random.Philox(key=words)).random(3)
    assert (seeds.generator(1234, "sample", 7).random(3) == expected).all()
    assert seeds.key(1234, "sample", 7).hex().startswith(
        "c502d8f7fb7e9aed")


def test_streams_of_neighbours_are_independent():
    values = np.stack([seeds.generator(0, "sample", g).standard_normal(64) for g in range(512)])
    correlation = np.corrcoef(values)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.75  # six standard deviations of 1/8

"""The gate over real runs of digits_tiny: what was disturbed is caught, what was not passes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import fixtures
from tests.command import ROOT, environment

BITS = ("loss_bits", "weights_bits", "ema_bits")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    data = fixtures.write_features(
        tmp_path_factory.mktemp("data") / "d", images=16, channels=1, size=8, tokens=12, width=64
    )
    process = subprocess.run(
        [sys.executable, "-m", "tests.baselines.real", data, tmp_path_factory.mktemp("out")],
        cwd=ROOT, env=environment(), capture_output=True, text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_five_undisturbed_repeats_pass(found):
    verdicts = found["undisturbed"]
    assert {key: verdicts[key] for key in BITS} == dict.fromkeys(BITS, "same")
    assert verdicts["host_memory"] == "same"
    assert verdicts["train_loss"] == "same"
    # On a machine that stays too noisy for three rounds the answer is honest, and not red.
    assert verdicts["throughput"] in ("same", "inconclusive")
    assert verdicts["outcome"] in ("passed", "inconclusive")


def test_a_sleep_of_20_percent_in_the_step_is_caught(found):
    assert found["sleep"]["throughput"] == "worse"
    assert found["sleep"]["outcome"] == "failed"
    assert {found["sleep"][key] for key in BITS} == {"same"}


def test_twice_the_memory_is_caught(found):
    assert found["memory"]["host_memory"] == "worse"
    assert found["memory"]["outcome"] == "failed"


def test_one_changed_weight_bit_is_caught(found):
    # The lowest bit of one weight need not reach the loss, which is rounded too.
    assert found["bit"]["weights_bits"] == found["bit"]["ema_bits"] == "worse"
    assert found["bit"]["outcome"] == "failed"

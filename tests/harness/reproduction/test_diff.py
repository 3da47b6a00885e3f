"""harness diff: settings, stack, the first step that differs, and the tensors near it."""

import json
import shutil

import numpy as np
import pytest

from harness import runs
from harness.reproduction import diff, divergence
from harness.training import train
from tests.command import assert_one_line_error, harness
from tests.fixtures import tiny_config
from tests.harness.reproduction.test_run_again import flip_weight_bit, rewrite, seal


@pytest.fixture(scope="module")
def one(features, tmp_path_factory):
    directory = tmp_path_factory.mktemp("one") / "run"
    train.train(train.Plan(tiny_config(), 1234, directory, features, 0))
    return directory


@pytest.fixture(scope="module")
def other(features, tmp_path_factory):
    """Another learning rate from step 5 on: steps 1 to 5 have the same losses."""
    directory = tmp_path_factory.mktemp("other") / "run"
    config = tiny_config("optim.warmup_steps=4", "optim.schedule='linear'")
    train.train(train.Plan(config, 1234, directory, features, 0))
    return directory


def report(a, b):
    return diff.diff(runs.load(a), runs.load(b))


def test_a_run_and_its_copy_are_identical(one, tmp_path):
    found = report(one, shutil.copytree(one, tmp_path / "copy"))
    assert found["identical"] and not found["config"] and not found["stack"]
    assert found["losses"]["compared"] == 6 and found["losses"]["differing"] == 0
    assert [c["step"] for c in found["checkpoints"]] == [6]
    assert "identical, bit for bit" in diff.text(found)


def test_settings_that_leave_the_bits_leave_runs_identical(one, features, tmp_path):
    config = tiny_config("train.recompute=true", "data.num_workers=0", "train.save_steps=2")
    train.train(train.Plan(config, 1234, tmp_path / "run", features, 2))
    found = report(one, tmp_path / "run")
    assert found["identical"]
    assert found["config"] == {"train.recompute": [False, True], "data.num_workers": [2, 0],
                               "train.save_steps": [3, 2]}


def test_the_first_diverging_step_and_the_tensors_around_it(one, other):
    found = report(one, other)
    assert not found["identical"]
    assert found["config"] == {"optim.schedule": ["constant", "linear"]}
    assert found["losses"]["first_divergence"] == 6  # the rate of step 5 shows in step 6's loss
    assert found["losses"]["largest"]["step"] == 6
    before, after = found["checkpoints"]
    assert (before["step"], before["tensors"]) == (3, [])
    assert after["step"] == 6 and after["parts"]["weights"]["differing"] > 0
    sizes = [t["relative"] for t in after["tensors"] if t["part"] == "weights"]
    assert sizes == sorted(sizes, reverse=True) and 0 < sizes[-1] < sizes[0] < 1
    text = diff.text(found)
    assert "config: optim.schedule is 'constant' in a, 'linear' in b" in text
    assert "first difference at step 6" in text and "--json lists all" in text


def test_seed_stack_and_data_are_named(one, tmp_path):
    copy = shutil.copytree(one, tmp_path / "copy")

    def change(info):
        info["seed"] = 99
        info["fingerprint"]["device"] = "abacus"
        info["data"]["sampled_digest"] = "0" * 64

    rewrite(copy / "run.json", change)
    found = report(one, copy)
    assert found["config"] == {"seed": [1234, 99]}
    assert found["stack"]["device"][1] == "abacus" and found["data"][1] == "0" * 64
    assert "abacus" in diff.text(found)


def test_one_bit_in_one_tensor(one, tmp_path):
    copy = shutil.copytree(one, tmp_path / "copy")
    flip_weight_bit(copy, 6)
    found = report(one, copy)
    assert "does not match its SHA-256" in found["findings"][0]["what"]
    seal(copy, 6)
    found = report(one, copy)
    assert not found["findings"] and not found["identical"]
    (tensor,) = found["checkpoints"][0]["tensors"]
    assert (tensor["part"], tensor["name"], tensor["elements"]) == (
        "weights", "mid_block.attn.qkv.weight", 1)


def test_runs_with_nothing_in_common_are_not_called_identical(one, tmp_path):
    copy = shutil.copytree(one, tmp_path / "copy")
    (copy / "metrics.jsonl").write_text("")
    shutil.rmtree(copy / "checkpoints")
    found = report(one, copy)
    assert not found["identical"] and found["losses"]["compared"] == 0
    assert found["losses"]["only_in_first"] == {"count": 6, "first": 1, "last": 6}
    assert "no step that both have one of" in diff.text(found)


def test_the_command(one, other):
    process = harness("diff", one, one)
    assert process.returncode == 0, process.stderr
    process = harness("diff", one, other, "--json")
    assert_one_line_error(process, 3, "do not have the same results")
    assert json.loads(process.stdout)["losses"]["first_divergence"] == 6
    assert_one_line_error(harness("diff", one, one.parent), 2, "is not a run")


def test_tensors_of_other_shapes_nan_and_absence():
    a = {"x": np.zeros(3, np.float32), "y": np.array([1, np.nan], np.float32),
         "only": np.zeros(1, np.float32), "z": np.zeros(2, np.float32)}
    b = {"x": np.zeros((3, 1), np.float32), "y": np.array([1, 2], np.float32),
         "z": np.array([0.0, -0.0], np.float32)}
    apart, found = divergence.tensors(a, b)
    by_name = {d["name"]: d for d in found}
    assert apart == float("inf")
    assert by_name["x"]["what"] == "float32 [3] and float32 [3, 1]"
    assert by_name["only"]["what"] == "only in the first"
    assert by_name["y"]["largest"] is None and by_name["y"]["elements"] == 1
    assert by_name["z"] == {"name": "z", "elements": 1, "of": 2, "largest": 0.0, "relative": 0.0}
    same = {"n": np.array([np.nan], np.float32)}
    assert divergence.tensors(same, same) == (0.0, [])

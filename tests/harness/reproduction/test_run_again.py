"""harness verify: a run that was changed anywhere is found, and what was changed is named."""

import json
import shutil

import numpy as np
import pytest

from harness import configs, files, runs
from harness.base import fingerprint, locked_stacks
from harness.base.errors import UsageError
from harness.files import tensor_files
from harness.reproduction import run_again
from harness.runs import checkpoints
from harness.training import train
from tests.command import assert_one_line_error, harness
from tests.fixtures import tiny_config


@pytest.fixture(scope="module")
def recorded(features, tmp_path_factory):
    """Six steps, checkpoints at 3 and 6."""
    directory = tmp_path_factory.mktemp("recorded") / "run"
    train.train(train.Plan(tiny_config(), 1234, directory, features, 0))
    return directory


@pytest.fixture
def run(recorded, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(recorded, tmp_path / "run")


def report(directory, **options):
    return run_again.verify(runs.load(directory), **options)


def rewrite(path, change):
    """`change` the JSON document in `path`."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def flip_weight_bit(directory, step, name="mid_block.attn.qkv.weight", part="model"):
    """One bit of one weight, its place in the file found by safetensors itself."""
    path = directory / "checkpoints" / f"{step:08d}" / f"{part}.safetensors"
    arrays = {k: v.copy() for k, v in tensor_files.read(path).items()}
    arrays[name].view(np.uint32).reshape(-1)[17] ^= 1
    path.write_bytes(b"".join(bytes(c) for c in tensor_files.chunks(arrays)))
    return path


def seal(directory, step):
    """Make the manifest agree with what the files have become, as a forger would."""
    folder = directory / "checkpoints" / f"{step:08d}"

    def change(manifest):
        for name in manifest["files"]:
            manifest["files"][name] = files.sha256_file(folder / name)
        manifest["self"] = checkpoints._self_digest(manifest)

    rewrite(folder / "manifest.json", change)


def said(found):
    return " | ".join(f"{one['where']}: {one['what']}" for one in found["findings"])


def test_an_untouched_run_is_identical_bit_for_bit(recorded):
    before = {p: p.read_bytes() for p in recorded.rglob("*") if p.is_file()}
    found = report(recorded)
    assert found["verdict"] == "identical" and found["bits_promised"] and not found["findings"]
    assert [row["step"] for row in found["steps"]] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] == "identical" for row in found["steps"])
    at_checkpoints = [row for row in found["steps"] if "weights" in row]
    assert [row["step"] for row in at_checkpoints] == [3, 6]
    for row in at_checkpoints:
        assert row["weights"] == row["ema"] == row["optimizer"] == "identical"
    assert {p: p.read_bytes() for p in recorded.rglob("*") if p.is_file()} == before


def test_from_a_checkpoint_and_for_some_steps(recorded):
    found = report(recorded, start=3, steps=2)
    assert (found["verdict"], found["from"], found["through"]) == ("identical", 3, 5)
    assert [row["step"] for row in found["steps"]] == [4, 5]
    with pytest.raises(UsageError, match=r"no checkpoint of step 4.*there are: 3, 6"):
        report(recorded, start=4)
    with pytest.raises(UsageError, match="nothing recorded after step 6"):
        report(recorded, start=6)


@pytest.mark.parametrize("sealed", [False, True], ids=["", "manifest too"])
@pytest.mark.parametrize("part, key", [("model", "weights"), ("ema", "ema")])
def test_one_changed_bit_is_found_and_its_tensor_named(run, part, key, sealed):
    path = flip_weight_bit(run, 3, part=part)
    if sealed:
        seal(run, 3)
    found = report(run)
    assert found["verdict"] == "differs"
    assert found["first_divergence"] == {"step": 3, "what": [key]}
    worst = found["largest_difference"]["tensor"]
    assert (worst["part"], worst["name"]) == (key, "mid_block.attn.qkv.weight")
    assert (worst["step"], worst["elements"]) == (3, 1)
    assert 0 < worst["largest"] < 1e-6
    assert (str(path) in said(found)) is not sealed
    assert "mid_block.attn.qkv.weight: 1 of" in run_again.text(found)


def test_a_changed_optimizer_is_found(run):
    flip_weight_bit(run, 6, name="moment2.pos_embed", part="optimizer")
    seal(run, 6)
    found = report(run)
    assert found["first_divergence"] == {"step": 6, "what": ["optimizer"]}


@pytest.mark.parametrize("both", [False, True], ids=["hex only", "hex and decimal"])
def test_one_changed_loss_line_is_found_and_named(run, both):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    changed = np.nextafter(lines[3]["loss"], 2.0)
    lines[3]["loss_hex"] = float(changed).hex()
    if both:
        lines[3]["loss"] = float(changed)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = report(run)
    assert found["verdict"] == "differs"
    assert found["first_divergence"] == {"step": 4, "what": ["loss"]}
    assert 0 < found["largest_difference"]["loss"]["relative"] < 1e-15
    assert ("step 4: loss" in said(found)) is not both


def test_missing_repeated_and_broken_lines_are_named(run):
    text = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(text[:2] + text[3:]))
    assert "line of step 3 is missing" in said(report(run))
    (run / "metrics.jsonl").write_text("".join([*text, text[0]]))
    assert "repeated or out of order" in said(report(run))
    (run / "metrics.jsonl").write_text("".join([text[0], "{\n", *text[1:]]))
    found = report(run)
    assert "line 2 is not a JSON object" in said(found)
    assert [row["step"] for row in found["steps"]] == [3, 6]  # the checkpoints still speak
    lr = [*text[:4], text[4].replace('"lr": ', '"lr": 1'), *text[5:]]
    (run / "metrics.jsonl").write_text("".join(lr))
    assert "step 5: lr" in said(report(run))


@pytest.mark.parametrize("forged", [False, True], ids=["", "digest too"])
def test_one_changed_config_value_is_found_and_named(run, forged):
    def change(info):
        info["config"]["optim"]["weight_decay"] = 0.031
        if forged:
            config = configs.from_values(info["config"], source="test")
            info["digest"] = configs.digest(config)

    rewrite(run / "run.json", change)
    found = report(run)
    assert found["verdict"] == "differs" and not found["steps"]
    assert "optim.weight_decay is 0.031, the checkpoint of step 3 was made with 0.03" in said(found)


@pytest.mark.parametrize("key, value", [("seed", 4321), ("deterministic", False)])
def test_other_values_of_run_json_are_checked(run, key, value):
    rewrite(run / "run.json", lambda info: info.update({key: value}))
    found = report(run)
    assert found["verdict"] == "differs" and key in said(found)


def test_other_data_is_named(run, features, tmp_path):
    other = shutil.copytree(features, tmp_path / "data")
    path = other / "train" / "0.npy"
    np.save(path, np.load(path) * np.float32(1.5))
    found = report(run, data_directory=other)
    assert "does not hold the data that the run was trained on" in said(found)
    assert found["verdict"] == "differs"


def test_on_another_stack_the_difference_is_named_and_within_tolerance(run, monkeypatch):
    """A run whose losses and weights are off by rounding, recorded on one more thread."""
    rewrite(run / "run.json",
            lambda info: info["fingerprint"].update({"env.OMP_NUM_THREADS": "64"}))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines[2:]:
        line["loss"] = float(np.nextafter(np.float32(line["loss"]), np.float32(2)))
        line["loss_hex"] = line["loss"].hex()
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flip_weight_bit(run, 3)
    seal(run, 3)
    found = report(run)
    assert found["verdict"] == "within tolerance" and not found["bits_promised"]
    assert found["stack"]["env.OMP_NUM_THREADS"][0] == "64"
    assert found["first_divergence"] == {"step": 3, "what": ["loss", "weights"]}
    text = run_again.text(found)
    assert "env.OMP_NUM_THREADS was '64'" in text and "no bits are promised" in text
    monkeypatch.setattr("harness.reproduction.divergence.TOLERANCE", 1e-12)
    assert report(run)["verdict"] == "differs"


def test_a_stack_that_changed_on_the_way_is_named(recorded, run):
    opened = runs.load(run)
    changed = {**opened.info["fingerprint"], "package.numpy": "1.0"}
    assert runs.note_stack(opened, 3, changed) == {
        "package.numpy": (opened.info["fingerprint"]["package.numpy"], "1.0")}
    found = report(run)
    assert "package.numpy (after step 3)" in found["stack"] and not found["bits_promised"]
    assert report(run, steps=3)["bits_promised"]  # before the change
    # Going on from before the change, with the stack of the beginning, takes it back.
    runs.note_stack(runs.load(run), 2, opened.info["fingerprint"])
    assert runs.load(run).stack_changes() == []


def test_the_command_says_all_this(run):
    process = harness("verify", run, "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["verdict"] == "identical"
    assert json.loads(process.stdout)["stack"] == {}, "the command must repeat the run's stack"
    flip_weight_bit(run, 6)
    process = harness("verify", run)
    assert_one_line_error(process, 3, "does not come out as it was recorded")
    assert "model.safetensors does not match its SHA-256" in process.stdout
    assert "first difference: step 6, weights" in process.stdout
    process = harness("verify", run, "--from", "6")
    assert_one_line_error(process, 2, "nothing recorded after step 6")


def test_the_fingerprint_names_the_stack():
    found = fingerprint.collect()
    for key in ("python", "package.paddlepaddle", "package.numpy", "paddle.commit", "paddle.cuda",
                "paddle.cudnn", "device", "driver", "world_size", "env.OMP_NUM_THREADS",
                "env.FLAGS_use_stride_kernel", "env.FLAGS_cudnn_deterministic"):
        assert key in found
    assert found["env.OMP_NUM_THREADS"] == "1"
    names = tuple(stack.name for stack in locked_stacks.STACKS)
    assert locked_stacks.label(found).startswith(names)
    assert found == fingerprint.collect()
    json.dumps(found, allow_nan=False)

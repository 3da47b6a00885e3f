"""Training as a user runs it: whole processes on real files."""

import contextlib
import json
import signal
import time

import pytest

from harness import runs
from harness.base.errors import Interrupted
from harness.runs import checkpoints
from harness.training.step import Trainer
from harness.training.train import Hooks, Plan, micro_batches, train
from tests import command, file_schemas
from tests.command import assert_one_line_error, harness
from tests.fixtures import tiny_config, write_features, write_tiny_config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_tiny_config(tmp_path_factory.mktemp("config") / "tiny.toml")


@pytest.fixture(scope="module")
def trained(config, features, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "run"
    process = harness("train", config, "--data", features, "--output-dir", directory)
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{directory}\n"
    assert file_schemas.check_all(directory) == {"run", "metrics", "timing", "manifest", "state"}
    return directory


def content(directory):
    """Every file of a run whose bytes must come out the same, by relative path."""
    found = {"metrics": (directory / "metrics.jsonl").read_bytes()}
    for path in sorted((directory / "checkpoints" / "00000006").iterdir()):
        found[path.name] = path.read_bytes()
    return found


def test_the_same_command_in_two_processes_gives_the_same_bytes(
    trained, config, features, tmp_path
):
    process = harness("train", config, "--data", features, "--output-dir", tmp_path / "again")
    assert process.returncode == 0, process.stderr
    assert content(tmp_path / "again") == content(trained)


def test_workers_do_not_change_the_run(trained, config, features, tmp_path):
    process = harness(
        "train", config, "--data", features, "--output-dir", tmp_path / "r", "--workers", 0
    )
    assert process.returncode == 0, process.stderr
    assert content(tmp_path / "r") == content(trained)


def test_another_seed_gives_other_bytes(trained, config, features, tmp_path):
    harness("train", config, "--data", features, "--output-dir", tmp_path / "r", "--seed", 7)
    other = content(tmp_path / "r")
    assert other["metrics"] != content(trained)["metrics"]
    assert runs.load(tmp_path / "r").seed == 7


def test_what_a_run_leaves(trained):
    run = runs.load(trained)
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4, 5, 6]
    for line in run.metrics():
        assert float.fromhex(line["loss_hex"]) == line["loss"]
    assert run.metrics()[1]["lr"] == pytest.approx(2e-4 * 2 / 4)
    assert [line["step"] for line in run.timing()] == [1, 2, 3, 4, 5, 6]
    last = run.timing()[-1]
    assert last["images_per_second"] > 0 and last["peak_host_bytes"] > 1e6
    assert 0 <= last["data_wait_share"] <= 1
    assert run.checkpoint_steps() == [3, 6]
    for key in ("digest", "pinned", "fingerprint", "commit", "data", "seed"):
        assert key in run.info
    assert not run.info["pinned"]


def test_a_finished_run_is_left_as_it_is(trained, config, features):
    before = content(trained)
    process = harness("train", config, "--data", features, "--output-dir", trained)
    assert process.returncode == 0, process.stderr
    assert content(trained) == before


def test_without_an_output_directory_the_run_is_named_by_config_and_seed(
    config, features, tmp_path
):
    process = harness("train", config, "--data", features, "--seed", 3, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    name = runs.name(tiny_config(), 3)
    assert process.stdout.strip() == f"runs/{name}"
    assert (tmp_path / "runs" / name / "run.json").is_file()


def test_stopped_by_a_signal_it_saves_and_resumes_to_the_same_bytes(features, tmp_path):
    def arguments(name):
        long = ("--set", "train.max_steps=60", "--set", "train.save_steps=60")
        path = write_tiny_config(tmp_path / "tiny.toml")
        return ("train", path, "--data", features, "--output-dir", tmp_path / name, *long)

    assert harness(*arguments("whole")).returncode == 0
    process = command.start(*arguments("stopped"))
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=25)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == 75, errors
    assert "run the same command again" in errors
    assert runs.load(tmp_path / "stopped").checkpoint_steps() != []
    assert harness(*arguments("stopped")).returncode == 0
    for name in ("metrics.jsonl", "checkpoints/00000060/model.safetensors",
                 "checkpoints/00000060/ema.safetensors",
                 "checkpoints/00000060/optimizer.safetensors"):
        whole, stopped = tmp_path / "whole" / name, tmp_path / "stopped" / name
        assert whole.read_bytes() == stopped.read_bytes(), name


def test_dry_run_prints_the_plan_and_touches_nothing(config, features, tmp_path):
    process = harness("train", config, "--data", features, "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    plan = json.loads(process.stdout)
    assert plan["steps"] == 6 and plan["images"] == 20 and plan["steps_per_epoch"] == 2
    assert list(tmp_path.iterdir()) == []


def test_another_config_may_not_continue_the_run(trained, config, features):
    before = content(trained)
    process = harness(
        "train", config, "--data", features, "--output-dir", trained, "--set", "optim.lr=1e-3"
    )
    assert_one_line_error(process, 2, "optim.lr (0.0002 there, 0.001 here)")
    process = harness("train", config, "--data", features, "--output-dir", trained, "--seed", 9)
    assert_one_line_error(process, 2, "seed (1234 there, 9 here)")
    assert content(trained) == before


def test_a_directory_that_is_no_run_is_not_touched(config, features, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for extra in ((), ("--overwrite",)):
        process = harness("train", config, "--data", features, "--output-dir", tmp_path, *extra)
        assert_one_line_error(process, 2, "thesis.txt")
        assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_overwrite_begins_anew(config, features, tmp_path):
    arguments = ("train", config, "--data", features, "--output-dir", tmp_path / "r")
    assert harness(*arguments, "--set", "train.max_steps=3").returncode == 0
    assert harness(*arguments, "--overwrite").returncode == 0
    assert runs.load(tmp_path / "r").checkpoint_steps() == [3, 6]


def test_bad_data_is_exit_4_and_names_the_file(config, tmp_path):
    directory = write_features(tmp_path / "d")
    path = directory / "train" / "5.npy"
    path.write_bytes(path.read_bytes()[:-100])
    arguments = ("train", config, "--data", directory, "--output-dir", tmp_path / "r")
    assert_one_line_error(harness(*arguments), 4, "5.npy is truncated: 100 bytes")


def test_data_of_other_shapes_is_exit_4(features, tmp_path):
    assert_one_line_error(
        harness("train", "small", "--data", features, "--output-dir", tmp_path / "r"), 4,
        "shape [8, 8, 8], expected [8, 32, 32]",
    )
    assert not (tmp_path / "r").exists()


def test_missing_data_is_exit_5_with_the_remedy(tmp_path):
    process = harness("train", "small", cwd=tmp_path)
    assert_one_line_error(process, 5, "data/coco256_features/train", "--data DIR")


def test_an_output_that_cannot_be_written_is_exit_5(config, features, tmp_path):
    (tmp_path / "file").write_text("in the way")
    process = harness(
        "train", config, "--data", features, "--output-dir", tmp_path / "file" / "run"
    )
    assert_one_line_error(process, 5, "file")


def test_half_precision_on_a_cpu_is_exit_5(config, features, tmp_path):
    process = harness(
        "train", config, "--data", features, "--output-dir", tmp_path / "r",
        "--set", "train.precision=fp16",
    )
    assert_one_line_error(process, 5, "needs a GPU")


def test_a_diverging_run_keeps_its_last_good_checkpoint(config, features, tmp_path):
    process = harness(
        "train", config, "--data", features, "--output-dir", tmp_path / "r",
        "--set", "optim.lr=1e8", "--set", "optim.warmup_steps=0", "--set", "train.max_steps=60",
        "--set", "train.save_steps=1", "--set", "optim.weight_decay=900.0",
    )
    assert_one_line_error(process, 4, "the loss became", "at step")
    run = runs.load(tmp_path / "r")
    last = run.checkpoint_steps()[-1]
    checkpoints.check(run.checkpoint(last))
    assert run.metrics()[-1]["step"] == last


def test_micro_batches_cover_each_step_in_order():
    parts = list(micro_batches(tiny_config("train.max_steps=3"), 1))
    assert parts == [(1, range(8, 12)), (1, range(12, 16)), (2, range(16, 20)), (2, range(20, 24))]


def test_until_stops_early_and_the_run_goes_on_to_the_same_bits(config, features, tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    arguments = ("train", config, "--data", features, "--output-dir")
    assert harness(*arguments, parts, "--until", 2).returncode == 0
    assert runs.load(parts).checkpoint_steps() == [2]
    for directory in (parts, whole):
        assert harness(*arguments, directory).returncode == 0
    one, other = runs.load(parts), runs.load(whole)
    assert one.metrics_file.read_bytes() == other.metrics_file.read_bytes()
    digests = [checkpoints.check(run.checkpoint(6))["weights_digest"] for run in (one, other)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("due", [False, True])
def test_a_signal_during_the_last_step_ends_the_run_unless_something_is_due(
    features, tmp_path, monkeypatch, due
):
    train_step, drawn = Trainer.train, []

    def signalled(trainer, *arguments, **named):
        if trainer.step == 5:
            signal.raise_signal(signal.SIGTERM)
        return train_step(trainer, *arguments, **named)

    monkeypatch.setattr(Trainer, "train", signalled)
    hooks = Hooks(image=lambda run, trainer: drawn.append(trainer.step))
    config = tiny_config(f"train.image_steps={6 if due else 4}")
    plan = Plan(config, 1, tmp_path / "run", features, workers=0, hooks=lambda: hooks)
    with pytest.raises(Interrupted) if due else contextlib.nullcontext():
        train(plan)
    assert drawn == ([] if due else [4])
    assert train(plan).checkpoint_steps()[-1] == 6  # made up for, with nothing to train
    assert drawn == ([6] if due else [4])

"""One evaluation shared by several processes, over gloo: the same figures for any number."""

import json
import shutil

import pytest

from eval.metrics import feature_statistics
from harness.base import seeds
from tests import fixtures, judged_data
from tests.command import assert_one_line_error, harness
from tests.eval import transformers

SHRUNK = ("--protocol", "digits-ddim20-200", "--n-samples", 22, "--steps", 2)
NAME = "00000003-digits-ddim20-200+n22+steps2"


@pytest.fixture(scope="module")
def run(digits_data, tmp_path_factory):
    """A run with a checkpoint of step 3, without having trained for it."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    return judged_data.untrained(directory, digits_data, {3: 1}, batch_size=4)


def evaluate(run, folder, *options):
    """The files of an evaluation of a copy of `run`, and what was printed, less the time taken."""
    shutil.copytree(run, folder)
    process = harness("eval", folder, "--fid", *SHRUNK, "--json", *options)
    assert process.returncode == 0, process.stderr
    assert "Modified FLAGS" not in process.stderr
    return files_of(folder / "eval" / NAME), printed(process, folder)


def printed(process, folder):
    found = json.loads(process.stdout.replace(str(folder), "RUN"))
    return {key: value for key, value in found.items() if key != "timing"}


def files_of(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    return json.dumps(result), (folder / "samples.png").read_bytes()


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory):
    return evaluate(run, tmp_path_factory.mktemp("alone") / "run")


@pytest.mark.parametrize("workers", [2, 4])
def test_the_figures_are_those_of_one_process(run, alone, tmp_path, workers):
    assert evaluate(run, tmp_path / "run", "--nproc", workers) == alone
    # Finished: the same command prints it again, whoever made it.
    again = harness(
        "eval", tmp_path / "run", "--fid", *SHRUNK, "--json", "--nproc", 5 - workers // 2
    )
    assert printed(again, tmp_path / "run") == alone[1]


@pytest.mark.slow
def test_further_networks_figures_too_are_those_of_one_process(run, digits_data, tmp_path):
    data = shutil.copytree(digits_data, tmp_path / "data")
    folder = transformers.write(tmp_path / "w", "dinov2")
    real = seeds.generator(3, "real").standard_normal((30, transformers.SMALL.width))
    feature_statistics.save(
        data / "reference-dinov2.npz", feature_statistics.of_features(real), features=real
    )
    found = []
    for workers in ((), ("--nproc", 2)):
        place = shutil.copytree(run, tmp_path / f"run{len(workers)}")
        process = harness("eval", place, "--fid", *SHRUNK, "--json", "--data", data, "--also",
                          f"dinov2={folder}", *workers)
        assert process.returncode == 0, process.stderr
        found.append(printed(process, place))
    assert found[0] == found[1] and found[0]["metrics"]["coverage_dinov2"] >= 0
    assert found[0]["protocol_name"].endswith("+also-dinov2")


def test_begun_by_three_and_finished_by_two(run, alone, tmp_path):
    evaluate(run, tmp_path / "run", "--nproc", 3)
    folder = tmp_path / "run" / "eval" / NAME
    (folder / "result.json").unlink()
    for lost in (0, 3):
        (folder / "features" / f"{lost:05d}.npz").unlink()
    process = harness("eval", tmp_path / "run", "--fid", *SHRUNK, "--json", "--nproc", 2)
    assert process.returncode == 0, process.stderr
    assert files_of(folder) == alone[0]


def test_the_validation_loss_is_shared_as_well(run):
    found = [
        harness("eval", run, *SHRUNK, "--json", *options).stdout
        for options in ((), ("--nproc", 2))
    ]
    assert json.loads(found[0])["metrics"]["val_loss"] > 0 and found[0] == found[1]


def test_what_is_missing_is_said_once_with_the_ranks_names(run):
    process = harness("eval", run, "--fid", *SHRUNK[:2], "--vae", "nowhere", "--nproc", 2)
    assert_one_line_error(process, 5, "rank 0, 1:", "nowhere")


@pytest.fixture(scope="module")
def trained(digits_data, tmp_path_factory):
    """Trains on N workers with an evaluation at step 3 on the way; its files."""
    folder = tmp_path_factory.mktemp("trained")
    config = fixtures.write_tiny_config(folder / "tiny.toml")
    settings = (
        "train.reduction=fixed-order", "train.micro_batch_size=1", "train.max_steps=4",
        "train.eval_steps=3", "eval.train_protocol=digits-ddim20-200", "eval.batch_size=16",
        "eval.decode_batch_size=16",
    )

    def train(workers):
        process = harness(
            "train", config, "--data", digits_data, "--output-dir", folder / str(workers),
            "--nproc", workers, *(part for setting in settings for part in ("--set", setting)),
        )
        assert process.returncode == 0, process.stderr
        return files_of(folder / str(workers) / "eval" / "00000003-digits-ddim20-200")

    return train


def test_evaluations_on_the_way_are_the_same_on_1_2_and_4_workers(trained):
    one = trained(1)
    assert one == trained(2) == trained(4)

"""`harness eval` on a run on disk, as a user calls it."""

import json
import shutil
import time

import numpy as np
import pytest

from harness import runs
from harness.base import seeds
from tests import command, file_schemas, judged_data
from tests.command import assert_one_line_error, harness

QUICK = ("--protocol", "digits-ddim20-200", "--n-samples", 12, "--steps", 2)


@pytest.fixture(scope="module")
def run(digits_data, tmp_path_factory):
    """A run with checkpoints of steps 3 and 6, without having trained for them."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    return judged_data.untrained(directory, digits_data, {3: 3, 6: 6}, batch_size=4)


def test_the_newest_checkpoint_is_evaluated_and_written(run):
    process = harness("eval", run, "--fid", *QUICK, "--json")
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["step"] == 6 and found["metrics"]["fd_digits"] > 0
    assert found["protocol_name"] == "digits-ddim20-200+n12+steps2"
    (result,) = (r for r in runs.load(run).results() if r["step"] == 6)
    assert result["metrics"] == found["metrics"]
    # The same command again prints what is there, as text too.
    again = harness("eval", run, "--fid", *QUICK)
    assert again.returncode == 0 and "fd_digits" in again.stdout
    assert f"{found['metrics']['fd_digits']:.6g}" in again.stdout


def test_repeats_differ_in_noise_and_are_summed_up(run):
    process = harness("eval", run, "--fid", *QUICK, "--step", 3, "--repeats", 2, "--json")
    assert process.returncode == 0, process.stderr
    spread = json.loads(process.stdout)["repeats"]["fd_digits"]
    assert spread["seeds"] == [1234, 1235] and spread["values"][0] != spread["values"][1]
    assert spread["mean"] == pytest.approx(sum(spread["values"]) / 2) and spread["std"] > 0
    assert file_schemas.check_all(run / "eval") == {"result", "repeats"}


def test_without_fid_only_the_validation_loss(run):
    process = harness("eval", run, *QUICK, "--json")
    found = json.loads(process.stdout)
    assert set(found["metrics"]) == {"val_loss"}
    assert len(found["validation"]["per_timestep"]) == 8


@pytest.mark.parametrize("arguments, code, said", [
    (("--step", 5), 2, "no checkpoint of step 5"),
    (("--fid", "--protocol", "nonsense"), 2, "unknown protocol"),
    (("--fid", "--data", "nowhere", *QUICK), 5, "nowhere"),
    (("--fid", "--vae", "nowhere", *QUICK[:2], "--n-samples", 11), 5, "nowhere"),
    (("--fid", "--also", "dinov2=nowhere", *QUICK), 5, "harness fetch dinov2"),
    (("--fid", "--reference", "none.npz", *QUICK[:2], "--n-samples", 11), 5, "none.npz"),
])
def test_bad_requests_are_one_line(run, arguments, code, said):
    assert_one_line_error(harness("eval", run, *arguments), code, said)


def test_statistics_of_another_dimension_are_exit_4(run, tmp_path):
    np.savez(tmp_path / "inception.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    process = harness("eval", run, "--fid", "--protocol", "digits-ddim20-200", "--n-samples", 10,
                      "--reference", tmp_path / "inception.npz")
    assert_one_line_error(process, 4, "inception.npz", "2048 features, these have 33")


def test_an_evaluation_that_cannot_be_written_is_exit_5(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("eval"))
    (copy / "eval").write_text("in the way")
    assert_one_line_error(harness("eval", copy, "--fid", *QUICK), 5, "eval")
    assert (copy / "eval").read_text() == "in the way"


def test_a_coco_run_without_inception_weights_is_exit_5(run, tmp_path):
    process = harness("eval", run, "--fid", "--protocol", "coco-ddim50", "--n-samples", 4,
                      TORCH_HOME=str(tmp_path))
    assert_one_line_error(process, 5, "Inception weights are missing", str(tmp_path))


def test_a_coco_protocol_takes_inception_features(run, torch_home, tmp_path):
    np.savez(tmp_path / "reference.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    process = harness(
        "eval", run, "--fid", "--protocol", "coco-ddim50", "--n-samples", 6, "--steps", 2,
        "--reference", tmp_path / "reference.npz", "--json", TORCH_HOME=str(torch_home),
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    # Weights other than the published ones make no FID.
    assert found["metrics"]["fid_unofficial_weights"] > 0 and "fid" not in found["metrics"]
    assert found["protocol"]["features"]["official"] is False
    assert found["metrics"]["fid_unofficial_weights_infinity"] is None


def test_a_damaged_checkpoint_is_exit_4(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    file = copy / "checkpoints" / "00000006" / "ema.safetensors"
    data = bytearray(file.read_bytes())
    data[int(seeds.generator(0, "bit").integers(len(data)))] ^= 1
    file.write_bytes(data)
    assert_one_line_error(harness("eval", copy, "--fid", *QUICK), 4, "SHA-256")


@pytest.mark.slow
def test_ten_kills_leave_no_trace_in_the_result(run, tmp_path):
    """600 images, SIGKILL at ten random moments: the figures of an evaluation left alone."""
    request = ("--fid", "--protocol", "digits-ddim50", "--n-samples", 600, "--steps", 2)
    name = "00000006-digits-ddim50+n600+steps2"
    copies = [tmp_path / "alone", tmp_path / "killed"]
    for copy in copies:
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("eval"))
    assert harness("eval", copies[0], *request, timeout=900).returncode == 0
    folder = copies[1] / "eval" / name / "features"
    random = seeds.generator(0, "ten kills")
    for _ in range(10):
        process = command.start("eval", copies[1], *request)
        wanted = len(list(folder.glob("*.npz"))) + int(random.integers(1, 10))
        while len(list(folder.glob("*.npz"))) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(float(random.random()) * 0.3)
        process.kill()
        process.communicate()
    assert not (copies[1] / "eval" / name / "result.json").exists()
    assert harness("eval", copies[1], *request, timeout=900).returncode == 0
    alone, killed = (
        json.loads((copy / "eval" / name / "result.json").read_text()) for copy in copies
    )
    del alone["timing"], killed["timing"]
    assert json.dumps(alone) == json.dumps(killed)
    promised = [
        {p.name: p.read_bytes() for p in (copy / "eval" / name).glob("**/*.[np][pn][zg]")}
        for copy in copies
    ]
    assert len(promised[0]) == 150 + 1 and promised[0] == promised[1]

"""As many samples as an interval's width needs: the figures of an evaluation of that many."""

import shutil

import pytest

from eval import protocols
from eval.evaluation import enough_samples, evaluate_run
from harness import runs
from tests.command import harness

PROTOCOL = protocols.get("digits-ddim20-200", num_inference_steps=2)


@pytest.fixture(scope="module")
def run(two_checkpoints, tmp_path_factory):
    return runs.load(shutil.copytree(two_checkpoints, tmp_path_factory.mktemp("width") / "tiny"))


def width(result):
    low, high = result["metrics"]["fd_digits_interval"]
    return high - low


def test_it_stops_as_soon_as_the_interval_is_narrow(run, two_checkpoints, tmp_path, capsys):
    alone = runs.load(shutil.copytree(two_checkpoints, tmp_path / "tiny"))
    few = evaluate_run.evaluate_run(alone, protocol=protocols.resized(PROTOCOL, 56), step=6)
    wanted = 0.8 * width(few)
    found = enough_samples.until_width(run, protocol=PROTOCOL, step=None, width=wanted)
    assert 56 < found["n_samples"] < 200 and width(found) <= wanted
    looked = [
        int(line.split()[0]) for line in capsys.readouterr().err.splitlines()
        if "samples: interval" in line
    ]
    assert looked[0] == 56 and looked[-1] == found["n_samples"]
    # A fixed N has the same figures and blocks.
    fixed = evaluate_run.evaluate_run(
        alone, protocol=protocols.resized(PROTOCOL, found["n_samples"]), step=6
    )
    assert fixed["metrics"] == found["metrics"]
    name = f"eval/00000006-{found['protocol_name']}/features/00003.npz"
    assert (run.directory / name).read_bytes() == (alone.directory / name).read_bytes()


def test_what_is_not_narrow_with_all_samples_is_said(run):
    request = ("--protocol", "digits-ddim20-200", "--steps", 2, "--n-samples", 60)
    ended = harness("eval", run.directory, *request, "--until-width", 1e-6)
    assert ended.returncode == 0, ended.stderr
    assert "wider than 1e-06 with all 60 samples" in ended.stderr
    assert "digits-ddim20-200+n60+steps2" in ended.stdout


def test_growth_follows_the_width_within_limits():
    assert enough_samples.grown(100, 2.0, 1.0, 10) == 400
    assert enough_samples.grown(100, 9.0, 1.0, 10) == 400
    assert enough_samples.grown(100, 1.01, 1.0, 10) == 130
    assert enough_samples.grown(100, 1.5, 1.0, 8) == 232

"""Two runs compared pair by pair, as a user asks: what is drawn, what is said, what goes on."""

import json
import shutil

import numpy as np
import pytest

from eval import protocols
from eval.evaluation import evaluate_run, paired_comparison
from eval.metrics import paired_distances
from eval.sampling import finished_blocks
from eval.sampling.image_making import Maker
from harness import runs
from tests.command import assert_one_line_error, harness

PROTOCOL = protocols.get("digits-ddim20-200", n_samples=120, num_inference_steps=2)
SETTINGS = {"minimum_effect": 0.0, "error_rate": 0.05}


@pytest.fixture(scope="module")
def pair(two_checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return [runs.load(shutil.copytree(two_checkpoints, folder / name)) for name in "ab"]


@pytest.fixture(scope="module")
def compared(pair):
    return paired_comparison.compare(*pair, protocol=PROTOCOL, steps=(6, 3), **SETTINGS)


def test_looks_are_at_pairs_of_the_first_samples(pair, compared):
    assert compared["planned"] == [64, 120]
    first = compared["looks"][0]
    assert first["samples"] == 64 and first["low"] < first["difference"] < first["high"]
    features = [
        np.concatenate([b.features for b in finished_blocks.stored(
            run.evaluation(step, PROTOCOL.name) / "features").all(8)])
        for run, step in zip(pair, (6, 3), strict=True)
    ]  # fmt: skip
    reference = evaluate_run.draw_of_run(pair[0], protocol=PROTOCOL, step=6, samples=8).reference
    found = paired_distances.difference(*features, reference)
    assert (first["a"], first["b"]) == (found.a, found.b)
    assert first["standard_error"] == found.standard_error
    assert compared["verdict"] in ("better", "worse", "undecided")
    assert compared["samples"] == compared["looks"][-1]["samples"]


def test_nothing_is_drawn_twice_and_an_evaluation_goes_on_from_it(pair, compared, monkeypatch):
    made = []
    images = Maker.images
    monkeypatch.setattr(Maker, "images", lambda s, a, b: made.append(a) or images(s, a, b))
    again = paired_comparison.compare(*pair, protocol=PROTOCOL, steps=(6, 3), **SETTINGS)
    assert again == compared and made == []
    evaluate_run.evaluate_run(pair[0], protocol=PROTOCOL, step=6)
    assert len(made) == 15 - -(-compared["samples"] // 8)


def test_the_same_weights_are_equal_at_the_first_look(pair):
    found = paired_comparison.compare(
        *pair, protocol=PROTOCOL, steps=(6, 6), minimum_effect=0.03, error_rate=0.05
    )
    assert (found["verdict"], found["samples"]) == ("equal", 64)
    assert found["looks"][0]["standard_error"] == 0.0


REQUEST = ("--protocol", "digits-ddim20-200", "--n-samples", 120, "--steps", 2)


def test_the_command_says_the_verdict_and_shows_the_images(pair, compared):
    a, b = (run.directory for run in pair)
    options = ("--against", b, "--against-step", 3, "--minimum-effect", 0)
    ended = harness("eval", a, *REQUEST, *options)
    assert ended.returncode == 0, ended.stderr
    assert f"of at most {120} pairs" in ended.stdout
    (folder,) = a.glob("eval/against-*")
    assert json.loads((folder / "against.json").read_text()) == compared
    page = (folder / "against.html").read_text()
    assert "interval of this look" in page and ">a digit" in page and page.count("<img") == 1


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_workers_share_the_pairs(pair, compared, two_checkpoints, tmp_path, workers):
    a, b = (shutil.copytree(two_checkpoints, tmp_path / run.name) for run in pair)
    options = ("--against", b, "--against-step", 3, "--minimum-effect", 0, "--nproc", workers)
    ended = harness("eval", a, *REQUEST, *options, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {key: found[key] for key in compared} == compared


def test_bad_requests_are_one_line(pair, tmp_path):
    a, b = (run.directory for run in pair)
    assert_one_line_error(harness("eval", a, "--against", tmp_path), 2, "is not a run")
    both = harness("eval", a, "--against", b, "--until-width", 1)
    assert_one_line_error(both, 2, "one at a time")

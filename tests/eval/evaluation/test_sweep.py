"""Sweeps of a tiny run: ordinary evaluations, their front and choice, kills, few samples."""

import json
import shutil
import time

import numpy as np
import pytest

from eval import captions as caption_lists
from eval.evaluation import evaluate_run, sweep, sweep_axes
from eval.metrics import feature_statistics, frechet
from eval.sampling import finished_blocks
from eval.sampling.image_making import Maker
from harness import runs
from harness.base import seeds
from harness.base.errors import UsageError
from reports.output import sweep_page
from tests import command
from tests.command import assert_one_line_error, harness

QUICK = {"n_samples": 40, "num_inference_steps": 2}


def points(axes, steps=(6,), **overrides):
    return sweep_axes.points(
        "digits-ddim20-200", {**QUICK, **overrides}, sweep_axes.parse(axes), steps
    )


@pytest.fixture(scope="module")
def run(two_checkpoints, tmp_path_factory):
    return runs.load(shutil.copytree(two_checkpoints, tmp_path_factory.mktemp("sweep") / "tiny"))


@pytest.fixture(scope="module")
def grid():
    return points(["guidance=1,3", "steps=2,3"])


@pytest.fixture(scope="module")
def swept(run, grid):
    return sweep.sweep(run, grid)


def test_every_point_is_an_ordinary_evaluation(run, grid, swept, monkeypatch):
    monkeypatch.setattr(evaluate_run, "make_model", lambda *_: pytest.fail("made again"))
    for point, said in zip(grid, swept["points"], strict=True):
        result = evaluate_run.evaluate_run(run, protocol=point.protocol, step=6)
        assert said["metrics"] == result["metrics"]
        assert said["distance"] == pytest.approx(result["metrics"]["fd_digits"], rel=1e-9)
        assert (said["protocol"], said["step"]) == (point.protocol.name, 6)
    assert swept["metric"] == "fd_digits" and swept["n_samples"] == 40
    assert [p["network_calls"] for p in swept["points"]] == [2, 3, 4, 6]
    # The validation loss, which no axis moves, is of all one and the same.
    assert len({p["metrics"]["val_loss"] for p in swept["points"]}) == 1


def test_the_choice_is_made_on_one_half_and_reported_on_the_other(run, grid, swept):
    on, other = np.array([p["halves"] for p in swept["points"]]).T
    assert swept["chosen"] == int(np.argmin(on)) and (on != other).all()
    distances = [p["distance"] for p in swept["points"]]
    assert swept["best"] == int(np.argmin(distances))
    best = swept["points"][swept["best"]]["behind_the_best"]
    assert best == {"difference": 0.0, "standard_error": 0.0}
    # A half by hand: the images of every other place in the list, wherever they come again.
    captions = caption_lists.choose(
        run.data_directory, 40, 1234, moments_shape=(8, 8, 8), context_shape=(4, 16)
    )
    images = captions.pairs[:, 0].tolist()
    order = list(dict.fromkeys(images))
    half = np.array([order.index(image) % 2 == 0 for image in images])
    folder = run.evaluation(6, grid[1].protocol.name) / "features"
    features = np.concatenate([b.features for b in finished_blocks.stored(folder).all()])
    reference = feature_statistics.load(run.data_directory / "reference.npz")
    by_hand = frechet.distance(feature_statistics.of_features(features[half]), reference)
    assert on[1] == pytest.approx(by_hand, rel=1e-9)


def test_halves_share_no_image(run):
    captions = caption_lists.choose(
        run.data_directory, 50, 7, moments_shape=(8, 8, 8), context_shape=(4, 16)
    )
    halves = sweep.caption_halves(captions)
    images = captions.pairs[:, 0]
    assert set(images[halves == 0]).isdisjoint(images[halves == 1])
    assert (halves[:20] == np.arange(20) % 2).all() and {10} == set(np.bincount(halves[:20]))


def test_what_was_swept_is_drawn_once_for_more_samples(run, swept, monkeypatch):
    """Evaluations that differ in N alone share what both go over, to the byte."""
    (longer,) = points(["guidance=3"], n_samples=60)
    made = []
    images = Maker.images
    monkeypatch.setattr(Maker, "images", lambda s, a, b: made.append((a, b)) or images(s, a, b))
    evaluate_run.evaluate_run(run, protocol=longer.protocol, step=6)
    assert made == [(40, 48), (48, 56), (56, 60)]
    folders = [run.evaluation(6, f"digits-ddim20-200+n{n}+steps2+g3") for n in (40, 60)]
    for block in range(5):
        one, other = (f / "features" / f"{block:05d}.npz" for f in folders)
        assert one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def halved(run):
    return sweep.sweep(run, points(["guidance=1,4", "steps=2,4"], seed=5), budget=130)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_a_sweep(halved, two_checkpoints, tmp_path, workers):
    shutil.copytree(two_checkpoints, tmp_path / "tiny")
    ended = harness(
        "eval", tmp_path / "tiny", "--protocol", "digits-ddim20-200", "--n-samples", 40,
        "--sweep", "guidance=1,4", "--sweep", "steps=2,4", "--seed", 5, "--budget", 130,
        "--json", "--nproc", workers,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {key: found[key] for key in halved} == halved


def test_a_budget_drops_points_and_keeps_their_figures_apart(run, halved):
    found = halved
    dropped = [p for p in found["points"] if "dropped_after" in p]
    assert len(dropped) == 2 and all(p["dropped_after"] == 24 for p in dropped)
    assert "dropped_after" not in found["points"][found["chosen"]]
    assert all("halves" in found["points"][i] for i in found["front"])
    for point in dropped:
        folder = run.evaluation(6, point["protocol"])
        assert not (folder / "result.json").exists()
        assert len(list(folder.glob("features/*.npz"))) == 3  # where `harness eval` would go on


def test_few_samples_are_refused(run):
    with pytest.raises(UsageError, match="at least 32"):
        sweep.sweep(run, points(["guidance=1,2"], n_samples=31))


REQUEST = (
    "--protocol", "digits-ddim20-200", "--n-samples", 40, "--sweep", "guidance=1,3",
    "--sweep", "steps=2,3",
)


def test_the_command_writes_the_page_and_goes_on_after_a_kill(
    swept, two_checkpoints, tmp_path
):
    copy = tmp_path / "tiny"
    shutil.copytree(two_checkpoints, copy)
    process = command.start("eval", copy, *REQUEST)
    while not list(copy.glob("eval/*/result.json")) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not list(copy.glob("eval/sweep-*/sweep.json"))
    ended = harness("eval", copy, *REQUEST)
    assert ended.returncode == 0, ended.stderr
    assert "Chosen on one half of the captions" in ended.stdout
    (folder,) = copy.glob("eval/sweep-*")
    assert json.loads((folder / "sweep.json").read_text()) == swept
    page = (folder / "sweep.html").read_text()
    assert "Quality against cost" in page and "Side by side" in page and page.count("<img") == 2
    assert "guidance 3, steps 2" in page and ">a digit" in page
    assert "http" not in page.replace("http-equiv", "")
    assert not runs.load(copy).results()[0]["directory"].count("sweep-")


def test_checkpoints_are_an_axis(run):
    found = sweep.sweep(run, points([], steps=sweep_axes.checkpoints("all", [3, 6], 6)))
    assert [p["step"] for p in found["points"]] == [3, 6]
    assert found["points"][0]["distance"] != found["points"][1]["distance"]
    losses = [p["metrics"]["val_loss"] for p in found["points"]]
    assert losses[0] != losses[1]  # each checkpoint has its own
    assert "checkpoint 3" in sweep_page.label(found, found["points"][0])


def test_bad_requests_are_one_line(run):
    ended = harness("eval", run.directory, "--sweep", "guidance=3..1:1")
    assert_one_line_error(ended, 2, "guidance=3..1:1")
    assert_one_line_error(harness("eval", run.directory, "--budget", 5), 2, "--sweep")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_digits_are_swept_in_minutes_and_three_kills_leave_no_trace(tmp_path):
    """4 guidances x 3 step counts x 2 samplers over 200 samples of a digits run."""
    data, alone, killed = (tmp_path / name for name in ("data", "alone", "killed"))
    assert harness("data", "digits", data).returncode == 0
    settings = ("max_steps=300", "save_steps=300", "image_steps=0", "eval_steps=0")
    ended = harness(
        "train", "digits_tiny", "--data", data, "--output-dir", alone, "--no-eval",
        *(part for s in settings for part in ("--set", f"train.{s}")), timeout=1200,
    )
    assert ended.returncode == 0, ended.stderr
    shutil.copytree(alone, killed)
    request = (
        "--protocol", "digits-ddim20-200", "--sweep", "guidance=1..4:1", "--sweep",
        "steps=5,10,20", "--sweep", "sampler=ddim,dpm",
    )
    assert harness("eval", alone, *request, timeout=3600).returncode == 0
    random = seeds.generator(0, "three kills")
    for _ in range(3):
        process = command.start("eval", killed, *request)
        wanted = len(list(killed.glob("eval/*/features/*.npz"))) + int(random.integers(1, 30))
        while len(list(killed.glob("eval/*/features/*.npz"))) < wanted and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    assert not list(killed.glob("eval/sweep-*/sweep.json"))
    assert harness("eval", killed, *request, timeout=3600).returncode == 0
    pages = [
        {p.name: p.read_bytes() for p in run.glob("eval/sweep-*/*") if p.name != "report.json"}
        for run in (alone, killed)
    ]
    said = [json.loads(page.pop("sweep.json")) | {"run": ""} for page in pages]
    assert len(said[0]["points"]) == 24 and said[0] == said[1]
    assert pages[0]["side-by-side.png"] == pages[1]["side-by-side.png"]
    assert pages[0]["front.png"] == pages[1]["front.png"]
    whole = [(p["network_calls"], p["distance"]) for p in said[0]["points"]]
    assert said[0]["front"] == sorted(
        (i for i, (calls, distance) in enumerate(whole)
         if not any(c <= calls and d < distance for c, d in whole)),
        key=lambda i: whole[i],
    )

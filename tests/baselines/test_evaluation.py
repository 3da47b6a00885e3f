"""The gate over real evaluations: samples from raw in place of EMA weights are caught."""

from __future__ import annotations

import shutil

import pytest

from baselines import gate, record
from eval import protocols
from eval.evaluation import evaluate_run
from harness import configs, runs
from harness.digits import dataset
from harness.runs import checkpoints
from harness.training import train
from tests import fixtures, judged_data

STEPS = 6
PROTOCOL = protocols.get(
    "digits-ddim20-200", n_samples=16, num_inference_steps=4, loss_images=8
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Features that fit the tiny config, with the digits' VAE, classifier and reference."""
    return judged_data.write(tmp_path_factory.mktemp("evaluation") / "data", real=60)


def trained(data, directory):
    """The tiny config with a large step, so that EMA and raw weights lie well apart."""
    config = fixtures.tiny_config("optim.lr=0.02", "optim.warmup_steps=0", "ema.decay=0.5")
    return train.train(train.Plan(config, 1, directory, data, 0))


def evaluated(run, data):
    evaluate_run.evaluate_run(run, protocol=PROTOCOL, data=data)
    return run


@pytest.fixture(scope="module")
def baseline(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("baseline")
    runs = [evaluated(trained(data, root / str(number)), data) for number in range(3)]
    return record.record(runs, "evaluated", vouched=True)


def quality(report):
    return {v.metric.partition("/")[0]: v for v in report.verdicts if "/" in v.metric}


def test_the_same_again_is_the_same_though_its_data_lie_elsewhere(baseline, data, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    run = evaluated(trained(moved, tmp_path / "run"), moved)
    found = quality(gate.check([run], baseline, vouched=True))
    assert {name: verdict.verdict for name, verdict in found.items()} == {
        "fd_digits": "same", "accuracy": "same", "val_loss": "same",
    }


def raw(run, step):
    """In place of `of_run.load_ema`: the weights as training left them."""
    step = run.checkpoint_steps()[-1]
    manifest = checkpoints.check(run.checkpoint(step))
    found = checkpoints.load(run.checkpoint(step), parts=("model",))
    return step, manifest, found.parts["model"]


def test_samples_from_raw_weights_are_caught(baseline, data, tmp_path, monkeypatch):
    run = trained(data, tmp_path / "run")
    monkeypatch.setattr(evaluate_run, "load_ema", raw)
    report = gate.check([evaluated(run, data)], baseline, vouched=True)
    found = quality(report)
    assert found["fd_digits"].verdict == found["val_loss"].verdict == "worse"
    assert {v.verdict for v in report.verdicts if v.metric.endswith("_bits")} == {"same"}
    assert report.outcome == "failed"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_distance_that_raw_weights_raise_is_found_by_its_size(tmp_path, monkeypatch):
    """digits_tiny as it is pinned, three quarters through, when the average has caught up.

    Measured: 11.0 from EMA and 14.4 from raw weights. Before step 500 the raw ones are better
    (79 to 166 at step 150), and only the rule on equal weights, left out here, sees the change.
    """
    data = dataset.build(tmp_path / "digits")
    config = configs.load("digits_tiny")
    plan = train.Plan(config, config.train.seed, tmp_path / "0", data, 0, until=750)
    first = train.train(plan)
    shutil.copytree(first.directory, tmp_path / "raw")
    protocol = protocols.get("digits-ddim20-200")
    evaluate_run.evaluate_run(first, protocol=protocol, data=data)
    for number in (1, 2):  # runs of one seed have one another's bits, and so figures
        shutil.copytree(first.directory, tmp_path / str(number))
    baseline = record.record([runs.load(tmp_path / name) for name in "012"], "ema")
    disturbed = runs.load(tmp_path / "raw")
    monkeypatch.setattr(gate, "_evaluation_changed", lambda *_: None)
    monkeypatch.setattr(evaluate_run, "load_ema", raw)
    evaluate_run.evaluate_run(disturbed, protocol=protocol, data=data)
    report = gate.check([disturbed], baseline)
    verdict = quality(report)["fd_digits"]
    assert verdict.verdict == "worse" and verdict.change > 0.1
    assert quality(report)["val_loss"].change > 0.03
    assert report.outcome == "failed"

"""What a report takes from a run's files: figures as an evaluation writes them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from eval.metrics import all_metrics, feature_statistics
from reports import build
from reports.reading import figure_protocols, run_records
from tests.reports import fabricate


def measured(rng):
    """What an evaluation gets its figures and their uncertainty from, of 60 samples."""
    real = rng.normal(size=(80, 3))
    reference = SimpleNamespace(statistics=feature_statistics.of_features(real), features=real)
    network = SimpleNamespace(size=3, metric="fd_digits")
    return all_metrics.measure(
        lambda: [rng.normal(0.5, 1, size=(60, 3))], network=network, reference=reference,
        n_samples=60, seed=1,
    )


@pytest.fixture
def evaluated(tmp_path):
    """A run with an evaluation's own figures, and the content of its result.json."""
    run = fabricate.run(tmp_path / "run", "digits_tiny")
    folder = fabricate.evaluate(run, 200, {}, n_samples=60)
    result = json.loads((folder / "result.json").read_text())
    result |= measured(np.random.default_rng(0))
    result["metrics"]["val_loss"] = 0.25
    result["validation"] = {"loss": 0.25, "standard_error": 0.01}
    (folder / "result.json").write_text(json.dumps(result))
    return run, result


def test_figures_have_the_uncertainty_that_the_evaluation_wrote(evaluated):
    run, result = evaluated
    found = {figure.metric: figure for figure in run_records.read(run)[0].figures}
    assert set(found) >= {"fd_digits", "kid", "precision", "val_loss"}
    distance = found["fd_digits"]
    assert [distance.low, distance.high] == result["metrics"]["fd_digits_interval"]
    error = run_records.NORMAL_90 * result["uncertainty"]["kid"]["standard_error"]
    assert (found["kid"].low, found["kid"].high) == pytest.approx(
        (found["kid"].value - error, found["kid"].value + error))
    assert found["val_loss"].high == pytest.approx(0.25 + run_records.NORMAL_90 * 0.01)
    assert np.isnan(found["precision"].low)


def test_the_validation_loss_is_known_by_the_evaluations_name(evaluated):
    assert figure_protocols.better("val_loss") == -1 and figure_protocols.is_headline("val_loss")
    column = next(c for c in build.build(evaluated[0]).columns if c.metric == "val_loss")
    assert column.kind == "loss" and column.heading.startswith("Validation loss")

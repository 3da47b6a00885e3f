"""All figures of one set of features, and the memory that they take."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval.metrics import (
    all_metrics,
    density_coverage,
    feature_statistics,
    frechet,
    kid,
    precision_recall,
)
from eval.metrics.reference_statistics import Reference
from tests.command import ROOT, environment

LIMIT = 600 * 2**20


def features(n, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32) + shift


def measure(made, real, *, with_features=True):
    reference = Reference(
        feature_statistics.of_features(real), "", Path(), real if with_features else None
    )
    return all_metrics.measure(
        lambda: np.array_split(made, 9), network=SimpleNamespace(size=6, metric="fd"),
        reference=reference, n_samples=len(made), seed=0,
    )


def test_every_figure_is_its_module_s():
    made, real = features(200, 1, 0.5), features(150, 2)
    found = measure(made, real)
    metrics = found["metrics"]
    expected = frechet.distance(*map(feature_statistics.of_features, (made, real)))
    assert metrics["fd"] == pytest.approx(expected, rel=1e-12)
    assert metrics["fd_interval"][0] < expected < metrics["fd_interval"][1]
    assert metrics["fd_infinity"] < metrics["fd"]
    assert metrics["kid"] == kid.kid(made, real).value
    precision, recall = precision_recall.precision_recall(real, made)
    assert (metrics["precision"], metrics["recall"]) == (precision, recall)
    density, coverage = density_coverage.density_coverage(real, made)
    assert (metrics["density"], metrics["coverage"]) == (density, coverage)
    assert found["uncertainty"]["fd"]["level"] == 0.9


def test_what_cannot_be_had_is_left_out():
    few = measure(features(20, 1), features(150, 2), with_features=False)
    assert few["uncertainty"] == {} and "kid" not in few["metrics"]
    assert few["metrics"]["fd_infinity"] is None
    assert "kid" not in measure(features(3, 1), features(150, 2))["metrics"]
    assert "density" not in measure(features(20, 1), features(5, 2))["metrics"]


def peak(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tests.eval.memory", *arguments], cwd=ROOT, text=True,
        capture_output=True, check=True, env=environment(),
    )
    return int(done.stdout)


def test_memory_is_bounded_while_features_stream():
    assert peak("1600") < LIMIT


@pytest.mark.slow
def test_memory_at_thirty_thousand_samples():
    assert peak("30000", "all") < LIMIT

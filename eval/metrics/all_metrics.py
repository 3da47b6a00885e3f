"""All figures of one set of samples: Frechet distance, its interval, and what needs neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from eval.metrics import cmmd, density_coverage, frechet, intervals, kid, precision_recall
from eval.metrics.feature_statistics import Accumulator
from eval.metrics.reference_statistics import Reference

# What needs the reference's samples, not only their statistics; none without the first.
OF_SAMPLES = ("kid", "precision", "recall", "density", "coverage")


def measure(
    features: Callable[[], Iterable[np.ndarray]], *, network: Any, reference: Reference,
    n_samples: int, seed: int,
) -> dict[str, Any]:
    """{"metrics": {...}, "uncertainty": {...}} of features [n, d], streamed block by block.

    `features()` is iterated once. The distance goes by `network.metric`; what cannot be had (KID
    without the reference's features, an extrapolation from too few samples) is None. An interval
    stands beside its metric as `<metric>_interval`, [low, high].
    """
    size, name = network.size, network.metric
    accumulator = Accumulator(
        size, block_rows=intervals.rows_per_block(size, n_samples), keep_blocks=True
    )
    kept = []
    for rows in features():
        accumulator.add(rows)
        if reference.features is not None:
            kept.append(np.asarray(rows, np.float32))
    total = accumulator.finish()
    metrics: dict[str, Any] = {name: frechet.distance(total.statistics(), reference.statistics)}
    uncertainty: dict[str, Any] = {}
    spread = intervals.interval(accumulator.blocks, total, reference.statistics, seed=seed)
    if spread:
        metrics[f"{name}_interval"] = [spread.low, spread.high]
        uncertainty[name] = spread.describe()
    metrics[f"{name}_infinity"] = intervals.extrapolate(
        accumulator.blocks, reference.statistics, seed=seed
    )
    if kept and reference.features is not None:
        generated = np.concatenate(kept)
        metrics |= against_samples(generated, reference.features)
        if name.startswith("fd_clip"):
            metrics[name.replace("fd_clip", "cmmd")] = cmmd.cmmd(generated, reference.features)
        if "kid_standard_error" in metrics:
            uncertainty["kid"] = {"standard_error": metrics.pop("kid_standard_error")}
    return {"metrics": metrics, "uncertainty": uncertainty}


def of_further(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What `measure` found of the further network `name`, its figures named after it.

    Those that are called like another network's: `kid_dinov2` beside `kid`.
    """
    def named(key: str) -> str:
        return f"{key}_{name}" if key in OF_SAMPLES else key

    return {part: {named(key): value for key, value in figures.items()}
            for part, figures in found.items()}


def against_samples(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The figures that need the reference's samples, not only their mean and covariance.

    Empty if either set has too few samples for neighbours to mean anything.
    """
    if min(len(generated), len(real)) <= precision_recall.K:
        return {}
    found = kid.kid(generated, real)
    precision, recall = precision_recall.precision_recall(real, generated)
    return {
        "kid": found.value, "kid_standard_error": found.standard_error,
        "precision": precision, "recall": recall,
        **_density_coverage(generated, real),
    }


def _density_coverage(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    if len(real) <= density_coverage.K:
        return {}
    density, coverage = density_coverage.density_coverage(real, generated)
    return {"density": density, "coverage": coverage}

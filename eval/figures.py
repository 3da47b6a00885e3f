"""All figures of one set of samples: Frechet distance, its interval, KID, precision, recall."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from eval import frechet, intervals, kernel, manifold
from eval.references import Reference
from eval.statistics import Accumulator


def measure(
    features: Callable[[], Iterable[np.ndarray]], *, network: Any, reference: Reference,
    n_samples: int, seed: int,
) -> dict[str, Any]:
    """{"metrics": {...}, "interval": {...} or None} of features [n, d], streamed block by block.

    `features()` is iterated once. The distance goes by `network.metric`; what cannot be had (KID
    without the reference's features, an extrapolation from too few samples) is None.
    """
    size = network.size
    accumulator = Accumulator(
        size, block_rows=intervals.rows_per_block(size, n_samples), keep_blocks=True
    )
    kept = []
    for rows in features():
        accumulator.add(rows)
        if reference.features is not None:
            kept.append(np.asarray(rows, np.float32))
    total = accumulator.finish()
    distance = frechet.distance(total.statistics(), reference.statistics)
    spread = intervals.interval(accumulator.blocks, total, reference.statistics, seed=seed)
    infinite = intervals.extrapolate(accumulator.blocks, reference.statistics, seed=seed)
    metrics = {network.metric: distance, f"{network.metric}_infinity": infinite}
    if kept:
        metrics |= against_samples(np.concatenate(kept), reference.features)
    else:
        metrics |= dict.fromkeys(("kid", "kid_standard_error", "precision", "recall"))
    return {"metrics": metrics, "interval": spread.describe() if spread else None}


def against_samples(generated: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    """The figures that need the reference's samples, not only their mean and covariance."""
    if min(len(generated), len(real)) <= manifold.K:
        return dict.fromkeys(("kid", "kid_standard_error", "precision", "recall"))
    found = kernel.kid(generated, real)
    precision, recall = manifold.precision_recall(real, generated)
    return {
        "kid": found.value, "kid_standard_error": found.standard_error,
        "precision": precision, "recall": recall,
    }

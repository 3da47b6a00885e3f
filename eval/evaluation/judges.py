"""What judges samples: feature networks, each with the features of real images to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics import all_metrics
from eval.metrics.reference_statistics import Reference
from eval.sampling import finished_blocks
from eval.sampling.finished_blocks import Blocks
from harness import files


@dataclass(frozen=True)
class Judge:
    """A feature network, and the real images' features that it compares with."""

    network: Any
    reference: Reference

    def describe(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {"features": self.network.describe(), "reference": self.reference.describe()}


def measure(
    blocks: Blocks, judge: Judge, also: Mapping[str, Judge], *, seed: int
) -> dict[str, Any]:
    """`all_metrics.measure` of the samples by every judge; each reads the blocks once.

    Figures of `also` that would be called like the first one's are named after the network.
    """
    def of(one: Judge, name: str) -> dict[str, Any]:
        def features() -> Iterable[np.ndarray]:
            return (block.also[name] if name else block.features for block in blocks.all())

        return all_metrics.measure(
            features, network=one.network, reference=one.reference, n_samples=blocks.n_samples,
            seed=seed,
        )

    found = of(judge, "")
    for name, one in also.items():
        for part, figures in all_metrics.of_further(name, of(one, name)).items():
            found[part] |= figures
    return found


def completed(
    result: dict[str, Any], path: Path, kept_in: dict[str, Any], judge: Judge,
    also: Mapping[str, Judge],
) -> dict[str, Any]:
    """A finished result, in `path` too, with the figures that the harness learned after it.

    They come from the features that were kept (`kept_in`: what `finished_blocks.kept` takes), so
    nothing is sampled, and the figures that were there stay as they are. Without those features
    the result is returned as it is.
    """
    if not _lacking(result["metrics"], also):
        return result
    blocks = finished_blocks.kept(**kept_in)
    if blocks is None:
        return result
    measured = measure(blocks, judge, also, seed=result["protocol"]["seed"])
    found = {**result, "metrics": measured["metrics"] | result["metrics"]}
    files.atomic_write_json(path, found)
    return found


def _lacking(metrics: Mapping[str, Any], also: Mapping[str, Judge]) -> bool:
    """Whether figures that need the reference's features are missing, though others are there."""
    names = [f"_{name}" for name in also]
    return any(
        f"kid{name}" in metrics and any(key + name not in metrics for key in all_metrics.OF_SAMPLES)
        for name in ("", *names)
    )

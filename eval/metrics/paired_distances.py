"""The difference of two models' Frechet distances, of samples that share captions and noise.

Sample j of both is for the same caption and begins at the same noise, so that much of what moves
one distance moves the other, and the difference is surer than either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics import intervals
from eval.metrics.feature_statistics import Statistics


@dataclass(frozen=True)
class Difference:
    """`a` - `b`, both Frechet distances of equally many samples; `standard_error` of it by
    `degrees` degrees of freedom."""

    a: float
    b: float
    standard_error: float
    degrees: int

    @property
    def value(self) -> float:
        return self.a - self.b


def difference(a: np.ndarray, b: np.ndarray, reference: Statistics) -> Difference:
    """Of features [n, d] each, row j of both for the same caption and noise.

    A Frechet distance is no mean, but moves with each block of samples by that block's influence,
    as `intervals.interval` has it; the influences of a pair of blocks are subtracted from each
    other, and the spread of these differences over the blocks is the difference's error. The
    bias of few samples is in both alike as far as the models are, and is not taken out.
    """
    if a.shape != b.shape:
        raise ValueError(f"features of {a.shape} and of {b.shape} are not pairs")
    value_a, moves_a = influences(a, reference)
    value_b, moves_b = influences(b, reference)
    moves = moves_a - moves_b
    count = len(moves)
    return Difference(
        value_a, value_b, float(moves.std(ddof=1) / np.sqrt(count)), count - 1
    )


def influences(features: np.ndarray, reference: Statistics) -> tuple[float, np.ndarray]:
    """The distance of features [n, d], and each block's influence on it (`intervals`)."""
    return intervals.influences(*intervals.moments(features), reference)

"""Does a quantity grow? The slope over all that was seen, never a level."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

WARM_UP = 3  # values at the beginning that are not looked at: caches fill
FEWEST = 8  # values that a slope is made of
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Slope:
    """`rise`: what the slope adds over all that was seen; `low`: its lower bound."""

    n: int
    median: float
    per_value: float
    rise: float
    low: float
    allowed: float

    @property
    def grows(self) -> bool:
        """Whether it surely rises, and by more than is allowed."""
        return self.low > 0 and self.rise > self.allowed


def slope(values: Sequence[float], *, share: float = 0.01, absolute: float = 0.0) -> Slope | None:
    """The Theil-Sen slope of `values`, one a cycle or a moment; None of fewer than `FEWEST`.

    May rise by `share` of its median, or `absolute` if that is more. The median of all slopes
    between two values is not moved by single odd ones (Sen 1968; `scipy.stats.theilslopes`).
    """
    seen = np.asarray(values[WARM_UP:], np.float64)
    if len(seen) < FEWEST:
        return None
    seen = seen if len(seen) <= 2000 else seen[:: -(-len(seen) // 2000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are all the same
        found = stats.theilslopes(seen, alpha=CONFIDENCE)
    steps = len(seen) - 1
    return Slope(len(seen), float(np.median(seen)), found.slope, found.slope * steps,
                 found.low_slope * steps, max(share * float(np.median(seen)), absolute))

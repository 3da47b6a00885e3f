"""Deciding between two models while samples are drawn, without being misled by looking often.

Whoever tests at 5 % after every batch is wrong far more often than that (Armitage et al. 1969).
Here the looks are planned, and each gets an equal part of the error rate: its interval is one of
level 1 - error / looks, so that by Bonferroni's inequality all of them hold at once with a
probability of 1 - error, however they depend on each other. No verdict is wrong where they hold.
A group-sequential boundary (Pocock 1977; Lan and DeMets 1983) would be narrower by some per cent,
but needs independent, normal increments, which a Frechet distance has in the limit alone.
"""

from __future__ import annotations

from scipy.special import stdtrit

from eval.metrics import intervals
from eval.metrics.paired_distances import Difference

LOOKS = 5


def planned(most: int, rows: int) -> list[int]:
    """After how many samples to look: a sixteenth of `most`, doubled until it is `most`.

    Each is a multiple of `rows` (what is drawn at once), the last apart.
    """
    looks = [-(-most // 2**k // rows) * rows for k in reversed(range(1, LOOKS))]
    return [*sorted({n for n in looks if intervals.MIN_SAMPLES <= n < most}), most]


def interval(found: Difference, *, error_rate: float, looks: int) -> tuple[float, float]:
    """The difference's interval at one of so many looks, by Student's t."""
    wide = float(stdtrit(found.degrees, 1 - error_rate / looks / 2)) * found.standard_error
    return found.value - wide, found.value + wide


def verdict(low: float, high: float, *, minimum: float) -> str | None:
    """What an interval of A - B (less is better) says of A, None if it says nothing yet.

    `equal`: the difference is within -`minimum`..`minimum`; else `better` or `worse`.
    """
    if -minimum <= low and high <= minimum:
        return "equal"
    if high < 0:
        return "better"
    if low > 0:
        return "worse"
    return None

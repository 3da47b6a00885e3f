"""A study's statistics, on plain numbers: spreads over seeds, and planned comparisons.

A comparison has one of three answers. *different*: the difference exceeds what seeds explain, and
its size the minimum effect; *equal*: its whole interval lies within the minimum effect; else
*cannot say*, with the number of seeds that would most likely answer. Both kinds of claim are
corrected by Holm's method for all comparisons that were planned, the missing ones included: in at
most FAMILY_ALPHA of studies is any difference claimed where there is none, and in at most as many
any equality where the difference counts. tests/harness/studies/test_study_statistics.py simulates
both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from baselines import significance
from baselines.significance import deviation, quantile

LEVEL = 0.95
FAMILY_ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 200  # a side; who needs more asks for less


@dataclass(frozen=True)
class Summary:
    """Mean of `n` values and the `LEVEL` interval of the mean; NaN where one value gives none."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Candidate less reference, on the scale of the statistics.

    `error`: the standard error of `difference`, with so many `degrees` of freedom. `spreads`: the
    standard deviations that it is made of (of the paired differences, or of each side).
    """

    difference: float
    error: float
    degrees: float
    spreads: tuple[float, ...]
    n: tuple[int, int]
    minimum: float

    @property
    def paired(self) -> bool:
        return len(self.spreads) == 1

    @property
    def p_different(self) -> float:
        """Two-sided, that the true difference is nought."""
        return min(1.0, 2 * _upper(abs(self.difference), self.error, self.degrees))

    @property
    def p_equal(self) -> float:
        """That the true difference is not within `minimum`: two one-sided tests (Schuirmann
        1987), doubled, so that the claim is that of a two-sided interval."""
        room = self.minimum - abs(self.difference)
        return min(1.0, 2 * _upper(room, self.error, self.degrees))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Bounds that hold the true difference with probability 1 - `alpha`."""
        half = self.error * quantile(1 - alpha / 2, self.degrees)
        return self.difference - half, self.difference + half

    def needed(self, alpha: float) -> int | None:
        """Seeds a side with which a study of this difference and spread, tested at `alpha`, has
        an answer with probability POWER; None if MOST_SEEDS do not."""
        for n in range(2, MOST_SEEDS + 1):
            error, degrees = _error(self.spreads, (n,) * len(self.spreads))
            if _power(abs(self.difference), error, degrees, self.minimum, alpha) >= POWER:
                return n
        return None


@dataclass(frozen=True)
class Judgement:
    """`answer`: different, equal or cannot say. `low`..`high`: the interval at the level (1 -
    `alpha`) that Holm's method left this comparison; NaN where it could not be made."""

    answer: str
    alpha: float
    low: float = math.nan
    high: float = math.nan


def summary(values: Sequence[float]) -> Summary:
    """Mean and Student's t interval of at least one value."""
    return _around_mean(values, LEVEL, 0.0)


def prediction(values: Sequence[float], *, figures: int = 1) -> Summary:
    """The interval that one more value of the same kind falls into, with probability LEVEL for
    all of so many `figures` together (Bonferroni)."""
    return _around_mean(values, 1 - (1 - LEVEL) / figures, 1.0)


def compare(
    reference: Mapping[int, float], candidate: Mapping[int, float], *, minimum: float
) -> Difference | None:
    """Compare values by seed, on a scale on which differences are what counts (ratios: logarithms).

    Paired by seed where all seeds of one side are the other's too, else Welch's test (1947), which
    takes no two spreads for equal. None where a side has fewer than two values.
    """
    common = sorted(reference.keys() & candidate.keys())
    sizes = (len(reference), len(candidate))
    if min(sizes) < 2:
        return None
    if len(common) == min(sizes):
        gaps = [candidate[seed] - reference[seed] for seed in common]
        error, degrees = _error((deviation(gaps),), (len(gaps),))
        return Difference(fmean(gaps), error, degrees, (deviation(gaps),), (len(gaps),) * 2,
                          minimum)
    sides = (list(reference.values()), list(candidate.values()))
    spreads = (deviation(sides[0]), deviation(sides[1]))
    error, degrees = _error(spreads, sizes)
    return Difference(fmean(sides[1]) - fmean(sides[0]), error, degrees, spreads, sizes, minimum)


def judge(planned: Sequence[Difference | None]) -> list[Judgement]:
    """An answer to each of all the comparisons that were planned; None: it could not be made."""
    differ = _holm([one.p_different if one else 1.0 for one in planned])
    equal = _holm([one.p_equal if one else 1.0 for one in planned])
    return [_judge(*three) for three in zip(planned, differ, equal, strict=True)]


def _judge(
    one: Difference | None, differ: tuple[bool, float], equal: tuple[bool, float]
) -> Judgement:
    if one is None:
        return Judgement("cannot say", differ[1])
    if equal[0]:
        return Judgement("equal", equal[1], *one.interval(equal[1]))
    counts = differ[0] and abs(one.difference) >= one.minimum
    answer = "different" if counts else "cannot say"
    return Judgement(answer, differ[1], *one.interval(differ[1]))


def _holm(p_values: Sequence[float]) -> list[tuple[bool, float]]:
    """For each hypothesis whether Holm's method (1979) rejects it, and at which level it tested.

    What is not rejected was tested at the level at which the method stopped.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found, going = [(False, FAMILY_ALPHA)] * len(order), True
    for rank, index in enumerate(order):
        if going:
            alpha = FAMILY_ALPHA / (len(order) - rank)
            going = p_values[index] <= alpha
        found[index] = (going, alpha)
    return found


def _power(size: float, error: float, degrees: float, minimum: float, alpha: float) -> float:
    """How probable an answer of either kind is for a true difference of `size` >= 0."""
    half = error * quantile(1 - alpha / 2, degrees)
    different = _upper(max(half, minimum) - size, error, degrees)
    room = minimum - half
    if room <= 0:
        return different
    return different + _upper(-room - size, error, degrees) - _upper(room - size, error, degrees)


def _error(spreads: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """Standard error of a difference and its degrees of freedom (Welch-Satterthwaite)."""
    parts = [spread**2 / n for spread, n in zip(spreads, sizes, strict=True)]
    weights = sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    degrees = sum(parts) ** 2 / weights if weights else float(sum(sizes) - len(sizes))
    return math.sqrt(sum(parts)), degrees


def _around_mean(values: Sequence[float], level: float, more: float) -> Summary:
    n, mean = len(values), fmean(values)
    if n < 2:
        return Summary(n, mean, math.nan, math.nan)
    half = quantile((1 + level) / 2, n - 1) * deviation(values) * math.sqrt(1 / n + more)
    return Summary(n, mean, mean - half, mean + half)


def _upper(size: float, error: float, degrees: float) -> float:
    """Student's upper tail at `size` / `error`; without any error, whether `size` is at most 0."""
    if not error:
        return 0.0 if size > 0 else 1.0 if size < 0 else 0.5
    return significance.upper_tail(size / error, degrees)

"""Is a difference between two handfuls of runs real? The statistics of the gate.

A metric is *worse* only if three things hold: the difference exceeds a minimum effect
(3 % of a step's time is what people act on), it exceeds what the runs' own spread explains
(Student's t on run-level values, corrected by Holm for several metrics), and the machine was
quiet enough for the question to have an answer at all. When it was not, the honest verdict is
'inconclusive', neither red nor green.

The constants were chosen by simulation (docs/gate.md has the table,
tests/baselines/test_significance.py repeats it): at any noise at most 1 in 100 identical pairs is
called worse, and 97 of 100 slowdowns of 7 % are found at 2 % noise with 5 runs against 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

# Level of one test, one-sided, and of all tests of a check together. With one or two metrics
# under test each is tested at ALPHA; from three on Holm's method lowers the first ones.
ALPHA = 0.0075
FAMILY_ALPHA = 2 * ALPHA
# A weak prior on the spread between runs, worth one run: three runs that agree by luck do not
# make a machine perfect (the moderated t statistic, Smyth 2004, doi:10.2202/1544-6115.1027).
PRIOR_SPREAD = 0.015
PRIOR_DEGREES = 1
# A machine is too noisy when a difference of this many minimum effects could go unseen
# (power 80 %), and then only a difference that noise cannot explain at all is called.
TOO_NOISY = 2.75
NOISY_ALPHA = 0.001
POWER = 0.8
MOST_RUNS = 200  # a side; a machine that needs more needs to be quieter


@dataclass(frozen=True)
class Comparison:
    """One metric, baseline against check, on a scale where more is worse.

    `difference` of the means; `error` its standard error; `p` one-sided, in the direction that
    was seen; `p_beyond` that the true difference is within `minimum` after all; `detectable` the
    difference that would be found in 80 of 100 checks like this one; `spread` that of one run.
    """

    difference: float
    minimum: float
    error: float
    p: float
    p_beyond: float
    detectable: float
    spread: float
    turns: bool

    @property
    def too_noisy(self) -> bool:
        return self.detectable > TOO_NOISY * self.minimum

    @property
    def needed(self) -> int | None:
        """Runs a side with which this spread and this difference would give an answer.

        With a probability of POWER, for one or two metrics under test; None if MOST_RUNS do not.
        """
        size, target = abs(self.difference), TOO_NOISY * self.minimum
        if size > self.minimum:
            target = min(target, size)
        for runs in range(2, MOST_RUNS + 1):
            total = PRIOR_DEGREES + (runs - 1 if self.turns else 2 * runs - 2)
            if _detectable(self.spread * math.sqrt(2 / runs), total) <= target:
                return runs
        return None


def compare(
    baseline: Sequence[float], check: Sequence[float], *, minimum: float, turns: bool = False
) -> Comparison:
    """Compare run-level values (logarithms for ratios), larger being worse.

    At least one value a side, three together; `minimum` > 0 in the same unit. `turns`: the two
    sides took turns on one machine, value by value, so that what both of a turn share (a machine
    that has become slower) is no part of the spread.
    """
    n, m = len(baseline), len(check)
    if not n or not m or n + m < 3 or (turns and n != m):
        raise ValueError(f"{n} against {m} values cannot be compared")
    difference = fmean(check) - fmean(baseline)
    if turns:
        degrees = n - 1
        squares = _squares([b - a for a, b in zip(baseline, check, strict=True)]) / 2
    else:
        degrees = n + m - 2
        squares = _squares(baseline) + _squares(check)
    scale = math.sqrt(1 / n + 1 / m)
    moderated = math.sqrt(
        (PRIOR_DEGREES * PRIOR_SPREAD**2 + squares) / (PRIOR_DEGREES + degrees)
    )
    # For 'is it too noisy?' the prior may only add noise, never take it away; nor where turns leave
    # so few degrees that it would weigh more than its one run (simulated: 1.2 % of equal pairs).
    spread = max(moderated, math.sqrt(squares / degrees))
    cautious = spread * scale
    error = cautious if turns else moderated * scale
    size = abs(difference)
    total = PRIOR_DEGREES + degrees
    return Comparison(
        difference=difference,
        minimum=minimum,
        error=error,
        p=upper_tail(size / error, total),
        p_beyond=upper_tail((size - minimum) / cautious, total),
        detectable=_detectable(cautious, total),
        spread=spread,
        turns=turns,
    )


def _detectable(error: float, degrees: int) -> float:
    return error * (quantile(1 - ALPHA, degrees) + quantile(POWER, degrees))


def verdicts(comparisons: Sequence[Comparison], *, disturbed: Sequence[bool] = ()) -> list[str]:
    """better, same, worse or inconclusive for each of the metrics of one check.

    `disturbed`: whether a metric's check was seen to be noisier than its baseline.
    """
    noisy = [bool(flag) for flag in disturbed] or [False] * len(comparisons)
    significant = holm([c.p for c in comparisons])
    return [_verdict(c, s, d) for c, s, d in zip(comparisons, significant, noisy, strict=True)]


def _verdict(comparison: Comparison, significant: bool, disturbed: bool) -> str:
    direction = "worse" if comparison.difference > 0 else "better"
    if comparison.too_noisy or disturbed:
        return direction if comparison.p_beyond < NOISY_ALPHA else "inconclusive"
    if abs(comparison.difference) <= comparison.minimum:
        return "same"
    return direction if significant else "inconclusive"


def holm(p_values: Sequence[float], *, alpha: float | None = None) -> list[bool]:
    """Which hypotheses are rejected (Holm 1979), the family-wise error being at most `alpha`
    (FAMILY_ALPHA).

    No single test is made above ALPHA, also where it stands alone.
    """
    alpha = FAMILY_ALPHA if alpha is None else alpha
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if not p_values[index] < min(ALPHA, alpha / (len(order) - rank)):
            break
        rejected[index] = True
    return rejected


def median(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The (weighted) median: the middle, or the mean of the two middles of equal weight."""
    pairs = sorted(zip(values, weights or [1.0] * len(values), strict=True))
    half, seen = sum(w for _, w in pairs) / 2, 0.0
    for i, (value, weight) in enumerate(pairs):
        seen += weight
        if seen > half:
            return value
        if seen == half and i + 1 < len(pairs):
            return (value + pairs[i + 1][0]) / 2
    return pairs[-1][0]


def robust_spread(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation (x 1.4826, exact for normal noise)."""
    middle = median(values)
    return 1.4826 * median([abs(value - middle) for value in values])


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return math.sqrt(_squares(values) / (len(values) - 1)) if len(values) > 1 else 0.0


def _squares(values: Sequence[float]) -> float:
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def upper_tail(t: float, degrees: float) -> float:
    """Probability that Student's t exceeds `t`."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))


def quantile(probability: float, degrees: float) -> float:
    """The value that Student's t stays below with `probability`."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))

"""A study's table: every group of seeds with its means, and what its planned comparisons say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from baselines.metrics import METRICS
from harness.studies import study_figures, study_statistics
from harness.studies.study_figures import CellFigures, Figure, Figures
from harness.studies.study_file import AXES
from harness.studies.study_sections import Comparison
from harness.studies.study_statistics import Difference, Judgement, Summary
from reports.output import number_formats

_UNITS = {"bytes": (2.0**-30, " GiB"), "share": (100.0, " %"), "speed": (1.0, " images/s")}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Entry:
    """A figure of a group of `planned` seeds. `summary`: None where none of them has it, or where
    `apart` says why they cannot be put together."""

    figure: Figure
    planned: int
    summary: Summary | None
    apart: str = ""


@dataclass(frozen=True)
class Row:
    """The cells of one place along the axes."""

    axes: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Compared:
    """A planned comparison of one figure. `low`..`high`: by how much of the figure's unit the
    candidate is better (below 0: worse), NaN where it could not be compared."""

    axes: tuple[str, ...]  # the candidate's place
    axis: str
    against: str
    figure: Figure
    minimum: float
    difference: Difference | None
    judgement: Judgement
    verdict: str
    low: float = math.nan
    high: float = math.nan


def rows(found: Figures) -> list[Row]:
    """A row for each group, in the study's order."""
    return [
        Row(axes, tuple(_entry(cells, figure) for figure in found.figures))
        for axes, cells in found.groups.items()
    ]


def _entry(cells: list[CellFigures], figure: Figure) -> Entry:
    having = [one for one in cells if figure.key in one.values]
    if apart := study_figures.machine_differs(having, figure):
        return Entry(figure, len(cells), None, f"{apart} differs between seeds")
    values = [one.values[figure.key] for one in having]
    summary = study_statistics.summary(values) if values else None
    return Entry(figure, len(cells), summary)


def compared(found: Figures) -> list[Compared]:
    """Every planned comparison, judged together with all the others."""
    planned = list(_planned(found))
    made = [_difference(found, *one) for one in planned]
    judged = study_statistics.judge([one if isinstance(one, Difference) else None for one in made])
    return [_say(found, *one, difference, judgement)
            for one, difference, judgement in zip(planned, made, judged, strict=True)]


_Plan = tuple[Comparison, tuple[str, ...], str, Figure]


def _planned(found: Figures) -> Iterator[_Plan]:
    """(comparison, the candidate's place, against which, figure), as many as the file planned.

    A figure that no cell has is planned all the same: what is missing makes nothing else easier.
    """
    for comparison in found.study.comparisons:
        at = AXES.index(comparison.axis)
        for one, against in found.study.pairs(comparison):
            for axes in found.groups:
                if axes[at] != one:
                    continue
                for metric in comparison.effects():
                    there = [f for f in found.figures if f.metric == metric]
                    logged = metric in study_figures.FROM_LOGS
                    planned = 1 if logged else len(found.study.protocols)
                    lacking = [Figure(metric)] * (planned - len(there))
                    yield from ((comparison, axes, against, f) for f in [*there, *lacking])


def _other(comparison: Comparison, axes: tuple[str, ...], against: str) -> tuple[str, ...]:
    at = AXES.index(comparison.axis)
    return (*axes[:at], against, *axes[at + 1:])


def _difference(
    found: Figures, comparison: Comparison, axes: tuple[str, ...], against: str, figure: Figure
) -> Difference | str:
    """The two sides compared on the metric's scale, more being worse; or why they cannot be."""
    places = (_other(comparison, axes, against), axes)
    sides = [[one for one in found.groups[place] if figure.key in one.values] for place in places]
    for place, side in zip(places, sides, strict=True):
        if not side:
            gone = all(one.missing for one in found.groups[place])
            return f"{label(found, place)} {'is missing' if gone else 'has no such figure'}"
    for place, side in zip(places, sides, strict=True):
        if len(side) == 1:
            return f"{label(found, place)} has one seed"
    if apart := study_figures.machine_differs(sides[0] + sides[1], figure):
        return f"{apart} is not the same"
    metric = METRICS[figure.metric]
    values = [{one.cell.seed: one.values[figure.key] for one in side} for side in sides]
    ratio = metric.scale == "ratio"
    if ratio and min(min(side.values()) for side in values) <= 0:
        return "a value is not positive"
    scaled = [{seed: metric.worse(value) for seed, value in side.items()} for side in values]
    least = comparison.effects()[figure.metric]
    minimum = math.log1p(least) if ratio else least
    return study_statistics.compare(scaled[0], scaled[1], minimum=minimum) or "too few seeds"


def _say(
    found: Figures, comparison: Comparison, axes: tuple[str, ...], against: str, figure: Figure,
    difference: Difference | str, judgement: Judgement,
) -> Compared:
    least = comparison.effects()[figure.metric]
    fixed = (axes, comparison.axis, against, figure, least)
    if isinstance(difference, str):
        return Compared(*fixed, None, judgement, f"cannot say: {difference}")
    reference = fmean(one.values[figure.key]
                      for one in found.groups[_other(comparison, axes, against)]
                      if figure.key in one.values)
    bounds = [_gain(figure, end, reference) for end in (judgement.low, judgement.high)]
    low, high = min(bounds), max(bounds)
    said = _words(label(found, axes), figure, least, difference, judgement, low, high)
    return Compared(*fixed, difference, judgement, said, low, high)


def _gain(figure: Figure, worse: float, reference: float) -> float:
    """How much better a value is, in the figure's unit, that is `worse` by so much on the scale
    of the statistics than `reference`."""
    metric = METRICS[figure.metric]
    if metric.scale != "ratio":
        return -worse
    return reference * (math.expm1(-worse) if metric.more_is_better else -math.expm1(worse))


def _words(
    name: str, figure: Figure, least: float, difference: Difference, judgement: Judgement,
    low: float, high: float,
) -> str:
    if judgement.answer == "equal":
        points = METRICS[figure.metric].scale != "ratio"
        return f"equal within the minimum effect ({100 * least:g} {'points' if points else '%'})"
    if judgement.answer == "different":
        ends = sorted((abs(low), abs(high)))
        direction = "better" if low > 0 else "worse"
        return f"{name} is {direction} in {_in_a_sentence(figure.name)} by {span(figure, *ends)}"
    needed = difference.needed(judgement.alpha)
    if needed is None:
        return f"cannot say: {study_statistics.MOST_SEEDS} seeds would not"
    more = max(1, needed - min(difference.n))
    number = _NUMBERS[more] if more < len(_NUMBERS) else f"{more}"
    return f"cannot say: {number} more {'seed' if more == 1 else 'seeds'} would"


def _in_a_sentence(name: str) -> str:
    return name if name[:2].isupper() else name[0].lower() + name[1:]


def span(figure: Figure, low: float, high: float) -> str:
    """Two differences of the figure, in its unit and short: '0.4 to 0.9'."""
    scale, unit = _UNITS.get(figure.kind, (1.0, ""))
    ends = [number_formats.significant(value * scale, 2) for value in (low, high)]
    return f"{ends[0]} to {ends[1]}{' points' if figure.kind == 'share' else unit}"


def label(found: Figures, axes: tuple[str, ...]) -> str:
    """A place along the axes by what varies in this study: 'small_deep', 'small, fused'."""
    return ", ".join(axes[AXES.index(axis)] for axis in found.study.varied)


def value_text(entry: Entry, seeds: int) -> str:
    """'12.34 ± 0.56', with the number of seeds where that is not `seeds`, or why there is none."""
    if entry.summary is None:
        return f"not comparable: {entry.apart}" if entry.apart else "missing"
    mean, half = entry.summary.mean, entry.summary.high - entry.summary.mean
    fewer = "" if entry.summary.n == seeds else f" ({entry.summary.n} of {entry.planned})"
    return mean_text(entry.figure, mean, half) + fewer


def mean_text(figure: Figure, mean: float, half: float) -> str:
    """A mean with half its interval, as many digits as the interval has two of; bytes in GiB."""
    scale, unit = _UNITS.get(figure.kind, (1.0, ""))
    mean, half = mean * scale, half * scale
    if not half > 0:  # one seed, or seeds that agree to the bit
        spread = "" if math.isnan(half) else " ± 0"
        return number_formats.significant(mean) + spread + unit
    places = max(0, min(12, 1 - math.floor(math.log10(half))))
    return f"{mean:,.{places}f} ± {half:,.{places}f}{unit}"

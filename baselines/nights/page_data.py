"""The figures of a config's page, and of the index, as JSON values that templates/*.js draw."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import metrics
from baselines.metrics import METRICS
from baselines.nights.kept_nights import short
from baselines.nights.night_notes import Note
from baselines.nights.night_series import Change, Series
from reports.output import palette
from reports.reading import figure_protocols

_NEWEST = 500  # changes that the index lists
_CHARTED = ("throughput", "device_memory", "host_memory", "train_loss", "val_loss")


class _Words:
    """Texts, each written once, and their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {"": 0}

    def __getitem__(self, text: str | None) -> int:
        return self.numbers.setdefault(text or "", len(self.numbers))


def of_config(
    series: Sequence[Series], notes: Sequence[Note], history: Path, out: Path
) -> dict[str, Any]:
    """A page's data: the series of one config. Runs of equal values are one value.

    `history` and `out` are where reports lie relative to, and where the page will be.
    """
    words = _Words()
    nights = sorted({night.night for one in series for night in one.nights})
    order = {night: at for at, night in enumerate(nights)}
    made = [_series(one, order, words, history, out) for one in series]
    keys = list(dict.fromkeys(key for one in series for key in one.metrics))
    config = series[0].config
    return {
        "kind": "config", "config": config, "nights": nights, "colours": palette.COLOURS,
        "metrics": {key: described(key) for key in sorted(keys, key=_place)}, "series": made,
        "words": list(words.numbers),
        "notes": [_note(one) for one in notes if one.config in (None, config)],
    }


def of_index(
    every: Sequence[Series], notes: Sequence[Note], pages: dict[str, str]
) -> dict[str, Any]:
    """The index's data: the last night of each series, and the newest changes of them all."""
    changes = [
        _change(one, change) | {"config": one.config, "page": pages[one.config],
         "runner": one.runner, "kernels": one.kernels,
         "night": one.nights[change.first].night, "last": one.nights[change.last].night,
         "commits": [one.cells[change.last]["commit"], one.cells[change.first]["commit"]],
         "stack": one.stack_label(change.first),
         "stacks": [one.stack_label(change.last), one.stack_label(change.first)]}
        for one in every for change in one.changes
    ]
    changes.sort(key=lambda one: one["night"], reverse=True)
    keys = {key for one in every for key in one.metrics}
    return {
        "kind": "index", "series": [_latest(one, pages[one.config]) for one in every],
        "changes": changes[:_NEWEST], "left_out": max(0, len(changes) - _NEWEST),
        "metrics": {key: described(key) for key in sorted(keys, key=_place)},
        "notes": [_note(one) for one in notes],
    }


def described(key: str) -> dict[str, Any]:
    """What a metric is called, its unit, and whether more of it is better."""
    name, _, protocol = key.partition("/")
    known = METRICS.get(name)
    title = figure_protocols.heading(name).replace("ema ", "EMA ")
    return {
        "title": title[:1].upper() + title[1:], "protocol": protocol,
        "unit": known.unit if known else "bits", "more": bool(known and known.more_is_better),
        "share": bool(known and known.scale == "difference"),
    }


def _place(key: str) -> tuple[int, str]:
    """Speed, memory, losses, quality; what is equal or not comes last."""
    name = metrics.family(key)
    return (_CHARTED.index(name) if name in _CHARTED else 9 if name in METRICS else 99), key


def _note(note: Note) -> dict[str, Any]:
    return {key: value for key, value in vars(note).items() if value is not None}


def _latest(series: Series, page: str) -> dict[str, Any]:
    cell, night = series.cells[-1], series.nights[-1]
    return {
        "config": series.config, "page": page, "runner": series.runner, "kernels": series.kernels,
        "device": series.device, "digest": series.digest[:8], "stack": series.stack_label(-1),
        "night": night.night, "nights": len(series.nights), "outcome": cell.get("outcome") or "",
        "changes": len(series.changes),
        "metrics": {key: _values(one["values"]) for key, one in cell["metrics"].items()},
    }


def _series(
    series: Series, order: dict[str, int], words: _Words, history: Path, out: Path
) -> dict[str, Any]:
    places = range(len(series.nights))
    differing = {at: series.stack_differences(at - 1, at) for at in places if at}
    return {
        "runner": series.runner, "device": series.device, "kernels": series.kernels,
        "digest": series.digest[:8],
        "at": [order[night.night] for night in series.nights],
        "commit": _runs([words[cell["commit"]] for cell in series.cells]),
        "stack": _runs([words[series.stack_label(at)] for at in places]),
        "outcome": _runs([words[cell.get("outcome")] for cell in series.cells]),
        "report": _runs([words[link(night.report, history, out)] for night in series.nights]),
        "stacks": {at: [[key, *map(_text, pair)] for key, pair in differs.items()]
                   for at, differs in differing.items() if differs},
        "metrics": {key: _metric(series, key, words) for key in series.metrics},
        "changes": [_change(series, one) for one in series.changes],
    }


def _metric(series: Series, key: str, words: _Words) -> dict[str, Any]:
    cells = [cell["metrics"].get(key, {}) for cell in series.cells]
    conditions = {at: one["conditions"] for at, one in enumerate(cells) if any(
        share > 0.005 for share in one.get("conditions", {}).values())}
    return {
        "values": _runs([_values(one.get("values", [])) for one in cells]),
        "noise": _runs([one.get("noise") for one in cells]),
        "verdict": _runs([words[one.get("verdict")] for one in cells]),
        "why": _runs([words[one.get("reason")] for one in cells]),
        "change": _runs([one.get("change") for one in cells]),
        "baseline": _runs([one.get("baseline") for one in cells]),
        "conditions": conditions,
    }


def _change(series: Series, change: Change) -> dict[str, Any]:
    return {
        "metric": change.metric, "before": short(change.before), "after": short(change.after),
        "p": change.p_value, "also": list(change.also),
        "last": change.last, "first": change.first,
        "differs": [[key, *map(_text, pair)] for key, pair in
                    series.stack_differences(change.last, change.first).items()],
    }


def _values(values: list[float]) -> Any:
    """All rounds; one number where they are equal (or there is one), None where there is none."""
    if not values:
        return None
    return values[0] if values.count(values[0]) == len(values) else values


def _text(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _runs(values: list[Any]) -> list[Any]:
    """`values` with every run of three or more equal ones as {"x": value, "n": how many}."""
    made: list[Any] = []
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            count = at - start
            made += [{"x": values[start], "n": count}] if count > 2 else values[start:at]
            start = at
    return made


def link(report: str | None, history: Path, out: Path) -> str:
    """Where a page in `out` finds a night's report: an address, or a path if it is there."""
    if not report:
        return ""
    if report.startswith(("https://", "http://")):
        return report
    path = history / report
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        return ""
    return urllib.parse.quote(os.path.relpath(path, out))

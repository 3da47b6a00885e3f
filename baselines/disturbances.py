"""Whether a card was throttled or shared, or a machine busy with others, while runs were timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baselines import significance
from harness import files

# Key of timing.jsonl (harness.training.machine_conditions) -> the share by which two sides may
# differ and still be compared, and what it is called.
CONDITIONS = {
    "throttled_share": (0.05, "throttled"),
    "others_share": (0.10, "shared with other processes"),
    "stolen_share": (0.02, "stolen by the host for other machines"),
}


def of_lines(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Each condition's mean over the lines' time; what no line tells is left out."""
    found = {}
    for key in CONDITIONS:
        told = [
            (line[key], line["seconds"]) for line in lines
            if files.is_number(line.get(key)) and files.is_number(line.get("seconds"))
        ]
        if seconds := sum(weight for _, weight in told):
            found[key] = sum(share * weight for share, weight in told) / seconds
    return found


def of_runs(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median run's."""
    return {
        key: significance.median([one[key] for one in each if key in one])
        for key in CONDITIONS if any(key in one for one in each)
    }


def unlike(ours: Mapping[str, float], baselines: Mapping[str, float]) -> str | None:
    """Why times cannot be compared, or None; what a side does not tell was as it should be."""
    for key, (margin, words) in CONDITIONS.items():
        now, then = ours.get(key), baselines.get(key, 0.0)
        if now is not None and abs(now - then) > margin:
            return (f"the machine was {words} for {now:.0%} of the time, {then:.0%} when the "
                    "baseline was recorded: run again")
    return None

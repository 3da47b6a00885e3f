"""The page of a soak: how many cycles, what went wrong by intention, and the slopes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.base.cpu_info import cpu_name
from tests.soak.cycle import ANEW
from tests.soak.slopes import WARM_UP, Slope, slope

# Counts may rise by less than one over a whole soak, bytes by a hundredth; what is no quantity
# of a cycle's is not looked at.
_NOT = {"cycle", "seconds", "faults", "bits"}


def quantities(cycles: list[dict[str, Any]]) -> dict[str, Slope]:
    """Name -> slope over the cycles that have it."""
    names = [name for name in dict.fromkeys(n for one in cycles for n in one) if name not in _NOT]
    found = {name: slope([one[name] for one in cycles if name in one],
                         share=0.01 if "bytes" in name else 0.0,
                         absolute=0.0 if "bytes" in name else 0.9) for name in names}
    return {name: one for name, one in found.items() if one is not None}


def markdown(cycles: list[dict[str, Any]], commit: str) -> str:
    """The page; what grows is set in bold."""
    hours = sum(one["seconds"] for one in cycles) / 3600
    rows = [f"# Soak: {len(cycles)} cycles in {hours:.2f} h", "",
            f"Commit {commit}, {cpu_name()}. In each cycle a run is begun and another goes on;",
            "both are trained, evaluated or reported with a fault each time, and the same command",
            "again ends well. The new run had the same bits in every cycle; the other is begun",
            f"anew every {ANEW} cycles, as a longer run is a longer report. Slopes are those of",
            f"Theil and Sen over all cycles but the first {WARM_UP}, the lower bound at 99 %.",
            "",
            "| quantity | median | rise over the soak | surely more than | allowed | |",
            "| --- | ---: | ---: | ---: | ---: | --- |"]
    for name, one in sorted(quantities(cycles).items()):
        rows.append(f"| {name.replace('_', ' ')} | {one.median:,.0f} | {one.rise:+,.1f} | "
                    f"{one.low:+,.1f} | {one.allowed:,.1f} | {'**grows**' if one.grows else ''} |")
    faults = Counter(fault for one in cycles for fault in one["faults"])
    rows += ["", "| command: fault while it ran, damage after it | times |", "| --- | ---: |",
             *(f"| {fault} | {count} |" for fault, count in sorted(faults.items()))]
    return "\n".join(rows) + "\n"

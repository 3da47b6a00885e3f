"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008), on light and dark."""

from __future__ import annotations

from reports.reading.run_records import Record

# Okabe-Ito without black and yellow, which vanish on one of the two grounds.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHER = "#8a8f98"
DASHES = ("solid", "dash", "dot", "dashdot")


def styles(records: list[Record]) -> dict[str, tuple[str, str]]:
    """Run label -> (colour, dash). A colour stands for a run, or for a config if runs are many."""
    if len(records) <= len(COLOURS):
        return {r.label: (COLOURS[i], DASHES[0]) for i, r in enumerate(records)}
    order: dict[str, int] = {}
    seen: dict[str, int] = {}
    found = {}
    for record in records:
        config = str(record.config.get("name", ""))
        index = order.setdefault(config, len(order)) % len(COLOURS)
        seen[config] = seen.get(config, -1) + 1
        found[record.label] = (COLOURS[index], DASHES[seen[config] % len(DASHES)])
    return found

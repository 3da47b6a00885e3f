"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008), on light and dark."""

from __future__ import annotations

from reports.records import Record

# Okabe-Ito without black and yellow, which vanish on one of the two grounds.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHER = "#8a8f98"
DASHES = ("solid", "dash", "dot", "dashdot")


def styles(records: list[Record]) -> dict[str, tuple[str, str]]:
    """Run label -> (colour, dash). A colour stands for a run, or for a config if runs are many."""
    own = len(records) <= len(COLOURS)
    keys = {r.label: r.label if own else str(r.config.get("name", "")) for r in records}
    order = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
    found = {}
    for label, key in keys.items():
        turn, index = divmod(order[key], len(COLOURS))
        found[label] = (COLOURS[index], DASHES[turn % len(DASHES)])
    return found

"""The benchmark's results as a table for a terminal or Markdown, and against an earlier run."""

from __future__ import annotations

from collections.abc import Iterable

from tests.bench.rows import Growth, Item, Row, Skipped

HEAD = ("part", "what", "against", "ours", "theirs", "ratio", "min..max", "target", "", "before")


def lines(items: Iterable[Item], before: dict[str, float]) -> list[tuple[str, ...]]:
    """One tuple of texts for each row, as HEAD names them; `before`: ratio by a row's key."""
    return [
        _skipped(item) if isinstance(item, Skipped) else _texts(item, before.get(item.key))
        for item in items if not isinstance(item, Growth)
    ]


def _skipped(row: Skipped) -> tuple[str, ...]:
    return (row.part, row.name, row.against, *[""] * 5, f"skipped: {row.why}", "")


def _texts(row: Row, before: float | None) -> tuple[str, ...]:
    target = "" if row.target is None else f"{row.sense} {row.target:g}"
    met = {None: "", True: "met", False: "NOT MET"}[row.met]
    change = "" if before is None else f"{before:.3g} ({row.ratio / before - 1:+.0%})"
    return (
        row.part, row.name, row.against, quantity(row.ours, row.unit),
        quantity(row.theirs, row.unit), f"{row.ratio:.3g}", f"{row.low:.3g}..{row.high:.3g}",
        target, met, change,
    )


def quantity(value: float, unit: str) -> str:
    """A value with its unit, in one that suits it: 0.0031 s is 3.1 ms."""
    if unit.startswith("s") and value < 1.0:
        value, unit = 1e3 * value, "m" + unit
    elif unit == "B":
        value, unit = value / 1e6, "MB"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def terminal(items: list[Item], before: dict[str, float]) -> str:
    """A table in columns, and the growths below it."""
    table = [HEAD, *lines(items, before)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    parts = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()
             for row in table]
    return "\n".join(parts + _growths(items))


def markdown(items: list[Item]) -> str:
    """The table for a page, without what was before."""
    head = HEAD[:-1]
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    out += ["| " + " | ".join(row[:-1]) + " |" for row in lines(items, {})]
    return "\n".join([*out, "", *(f"- {line}" for line in _growths(items))])


def _growths(items: list[Item]) -> list[str]:
    return [
        f"{g.part}: {g.name}: x^{g.exponent:.2f}  "
        + ", ".join(f"{x:g}: {quantity(y, g.unit)}" for x, y in zip(g.xs, g.ys, strict=True))
        for g in items if isinstance(g, Growth)
    ]

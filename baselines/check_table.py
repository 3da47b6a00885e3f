"""A check's report as people and CI systems read it: terminal, JSON, JUnit, GitHub."""

from __future__ import annotations

import dataclasses
from typing import Any

from baselines import metrics
from baselines.metrics import METRICS
from baselines.verdicts import Report, Verdict
from harness import files
from harness.base.wording import aligned, counted

SCHEMA = 1  # of `document`
MARK = {
    "better": "🟢 better", "same": "same", "worse": "🔴 worse", "missing": "🔴 missing",
    "not comparable": "🔴 not comparable", "inconclusive": "🟡 inconclusive",
}


def table(report: Report) -> str:
    """The verdicts as aligned columns, then the outcome in one line."""
    head = ("metric", "verdict", "baseline", "now", "change", "runs", "why")
    rows = [head, *(_row(verdict) for verdict in report.verdicts)]
    return "\n".join([*aligned(rows), "", summary(report)])


def _row(verdict: Verdict) -> tuple[str, ...]:
    runs = f"{verdict.n[0]}:{verdict.n[1]}" if any(verdict.n) else ""
    why = verdict.reason if verdict.gates else f"{verdict.reason} (not gated on)"
    return (
        verdict.metric, verdict.verdict, figure(verdict.metric, verdict.baseline),
        figure(verdict.metric, verdict.value), change(verdict), runs, why,
    )


def summary(report: Report) -> str:
    """One line: the outcome and what it rests on."""
    name, step = report.baseline.name, report.baseline.step
    counts: dict[str, int] = {}
    for verdict in report.verdicts:
        if verdict.gates:
            counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "nothing to compare"
    runs = counted(len(report.runs), "run")
    return f"{report.outcome}: {told} (baseline {name}, step {step}, {runs})"


def figure(metric: str, value: float | None) -> str:
    """A metric's value with its unit, short."""
    if value is None:
        return ""
    unit = METRICS[metrics.family(metric)].unit
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:,.5g} {unit}".strip() if unit != "share" else f"{value:.1%}"


def change(verdict: Verdict) -> str:
    """The change in percent (of shares: in points)."""
    if verdict.change is None:
        return ""
    share = METRICS[metrics.family(verdict.metric)].scale == "difference"
    return f"{100 * verdict.change:+.1f}{' points' if share else ' %'}"


def rerecord(report: Report) -> str | None:
    """The command that makes an improvement the new baseline, or None if nothing improved."""
    if not report.improved or report.outcome != "passed":
        return None
    runs = " ".join(report.runs)
    return f"harness baseline record {runs} --name {report.baseline.name} --replace"


def document(report: Report) -> dict[str, Any]:
    """The report as one JSON document; what is not finite is null."""
    verdicts = [
        {key: files.finite(value) for key, value in dataclasses.asdict(verdict).items()}
        for verdict in report.verdicts
    ]
    return {
        "schema": SCHEMA, "outcome": report.outcome, "baseline": report.baseline.name,
        "config": report.baseline.content["config"], "step": report.baseline.step,
        "runs": report.runs, "verdicts": verdicts, "record": rerecord(report),
    }


def markdown(report: Report) -> str:
    """A table for a GitHub step summary."""
    lines = [
        f"### Gate: {summary(report)}", "",
        "| metric | verdict | baseline | now | change | why |", "|---|---|---:|---:|---:|---|",
    ]
    for verdict in report.verdicts:
        mark = MARK[verdict.verdict] if verdict.gates else verdict.verdict
        cells = (verdict.metric, mark, figure(verdict.metric, verdict.baseline),
                 figure(verdict.metric, verdict.value), change(verdict), verdict.reason)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if command := rerecord(report):
        lines += ["", f"To make this the baseline: `{command}`"]
    return "\n".join(lines) + "\n"


def github_lines(report: Report) -> list[str]:
    """GitHub workflow commands: errors, warnings for what is inconclusive, notices."""
    found = []
    for verdict in report.verdicts:
        kind = {"better": "notice", "same": None}.get(
            verdict.verdict,
            "notice" if not verdict.gates else "warning" if verdict.undecided else "error",
        )
        if kind:
            title = f"{report.baseline.name}: {verdict.metric} {verdict.verdict}"
            text = " ".join(filter(None, (change(verdict), verdict.reason))) or verdict.verdict
            found.append(f"::{kind} title={_property(title)}::{_data(text)}")
    return found


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

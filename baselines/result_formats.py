"""Figures of runs in the forms that other tools read: PaddlePaddle's robots, CI, Prometheus.

`tipc`: a line of JSON a config, as PaddlePaddle's benchmark robots parse a training log into
(test_tipc/docs/benchmark_train.md of its model repositories). `bmf`: Bencher Metric Format. `gha`:
what github-action-benchmark calls customBiggerIsBetter and customSmallerIsBetter: it takes one of
the two a call. `junit`: a suite a config, a case a metric. `openmetrics`: a file for
node_exporter's textfile collector. Of a check alone, `markdown-pr`: a comment for a pull request.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines import check_table, junit, metrics
from baselines.metrics import METRICS
from baselines.verdicts import Report, Verdict
from harness import runs
from harness.base import locked_stacks
from harness.base.wording import counted
from reports.output.markdown import escape

FORMATS = ("tipc", "bmf", "gha-bigger", "gha-smaller", "openmetrics", "junit")
CHECK_FORMATS = (*FORMATS, "markdown-pr")
_OUTCOME = {"passed": "✅ passed", "failed": "🔴 failed", "inconclusive": "🟡 inconclusive"}


@dataclass(frozen=True)
class Figure:
    """One metric of a config: median, least and most over its runs."""

    key: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Runs of one config, digest and kernels, and what was measured of them."""

    name: str
    made: list[runs.Run]
    figures: dict[str, Figure]

    @property
    def first(self) -> runs.Run:
        return self.made[0]


def groups(found: Sequence[runs.Run]) -> list[Group]:
    """The runs by what they are runs of, in the order of their first."""
    together: dict[tuple[str, str], list[runs.Run]] = {}
    for run in found:
        kernels = str(run.info["fingerprint"].get("kernels"))
        together.setdefault((run.info["digest"], kernels), []).append(run)
    names = [each[0].info["config"]["name"] for each in together.values()]
    made = []
    for (digest, kernels), each in together.items():
        name = each[0].info["config"]["name"]
        if names.count(name) > 1:  # as it is, and changed; or by other kernels
            name = f"{name}-{digest[:8]}-{kernels}"
        made.append(Group(name, each, _figures(each)))
    return made


def _figures(each: Sequence[runs.Run]) -> dict[str, Figure]:
    values: dict[str, list[float]] = {}
    for run in each:
        for key, value in metrics.measure(run, metrics.last_step(run)).values.items():
            if math.isfinite(value.value):
                values.setdefault(key, []).append(value.value)
    return {
        key: Figure(key, statistics.median(found), min(found), max(found))
        for key, found in values.items()
    }


def document(found: Sequence[runs.Run], form: str) -> str:
    """`found` in one of FORMATS, with a newline at its end."""
    made = groups(found)
    if form == "tipc":
        return "".join(json.dumps(tipc(group), ensure_ascii=False) + "\n" for group in made)
    if form == "openmetrics":
        return openmetrics(made)
    if form == "junit":
        return junit.of_figures({
            group.name: {key: f"{one.value:.6g} {_metric(key).unit}".strip()
                         for key, one in group.figures.items()} for group in made}).decode()
    value: Any = bmf(made) if form == "bmf" else gha(made, bigger=form == "gha-bigger")
    return json.dumps(value, indent=2) + "\n"


def of_check(report: Report, found: Sequence[runs.Run], form: str) -> str:
    """A check of the runs `found` in one of CHECK_FORMATS, with a newline at its end."""
    if form == "junit":
        return junit.document([report]).decode()
    return markdown_pr(report, found[0]) if form == "markdown-pr" else document(found, form)


def markdown_pr(report: Report, first: runs.Run) -> str:
    """A comment for a pull request: what is not the same, then, folded, what is.

    Its first line, which is not shown, is the same for every check of a baseline: by it a job finds
    the comment of before and replaces it.
    """
    baseline, stack = report.baseline, first.info["fingerprint"]
    same = [one for one in report.verdicts if one.verdict == "same"]
    other = [one for one in report.verdicts if one.verdict != "same"]
    commit = (first.info.get("commit") or "an unknown commit")[:10]
    lines = [
        f"<!-- harness check {baseline.name} -->",
        f"### {_OUTCOME[report.outcome]}: `{baseline.name}`", "",
        f"{counted(len(report.runs), 'run')} of {_text(commit)} to step {baseline.step:,}, "
        f"{_text(locked_stacks.label(stack))} on {_text(str(stack.get('device')))}, against "
        f"{counted(len(baseline.content['runs']), 'run')} of the baseline.", "",
    ]
    lines += _verdicts(other)
    if same:
        lines += ["<details>", f"<summary>{counted(len(same), 'metric')} the same</summary>", "",
                  *_verdicts(same), "</details>", ""]
    if report.outcome == "inconclusive":
        lines += ["The machine was too noisy or not its own: run again, and check all the runs "
                  "together.", ""]
    if command := check_table.rerecord(report):
        lines += [f"To make this the baseline: `{command}`", ""]
    return "\n".join(lines)


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    rows = []
    for one in verdicts:
        mark = check_table.MARK[one.verdict] if one.gates else f"{one.verdict} (not gated on)"
        p = "" if one.p is None else f"{one.p:.2g}"
        figures = [check_table.figure(one.metric, value) for value in (one.baseline, one.value)]
        rows.append((one.metric, mark, *figures, check_table.change(one), p, one.reason))
    return [
        "| metric | verdict | baseline | now | change | p | why |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        *("| " + " | ".join(map(_text, row)) + " |" for row in rows), "",
    ]


def _text(text: str) -> str:
    """Shown as it is, and nobody is called by it."""
    return escape(text).replace("@", "&#64;")


def tipc(group: Group) -> dict[str, Any]:
    """What a robot parses out of a training's log. `ips` is of all devices together."""
    info = group.first.info
    train, stack = info["config"]["train"], info["fingerprint"]
    devices = stack.get("world_size") or 1
    batch, precision = train["global_batch_size"] // devices, train["precision"]
    throughput, loss = (group.figures.get(key) for key in ("throughput", "train_loss"))
    seconds = [line["seconds"] for line in group.first.timing() if "seconds" in line]
    return {
        "model_branch": "", "model_commit": info.get("commit") or "",
        "model_name": f"{group.name}_bs{batch}_{precision}_DP", "batch_size": batch,
        "fp_item": precision, "run_process_type": "MultiP" if devices > 1 else "SingleP",
        "run_mode": "DP", "convergence_value": loss.value if loss else 0,
        "convergence_key": "loss:", "ips": round(throughput.value, 3) if throughput else 0,
        "speed_unit": "images/s", "device_num": f"N1C{devices}",
        "model_run_time": f"{sum(seconds):.0f}", "frame_commit": stack.get("paddle.commit") or "",
        "frame_version": stack.get("package.paddlepaddle")
        or stack.get("package.paddlepaddle-gpu") or "",
    }


def bmf(made: Sequence[Group]) -> dict[str, Any]:
    """Benchmark -> measure -> value with its bounds; a measure's name is a slug."""
    return {
        group.name: {
            _slug(key): {"value": one.value, "lower_value": one.low, "upper_value": one.high}
            for key, one in group.figures.items()
        }
        for group in made
    }


def gha(made: Sequence[Group], *, bigger: bool) -> list[dict[str, Any]]:
    """The metrics of which more (or else less) is better."""
    return [
        {
            "name": f"{group.name}: {key}", "unit": _metric(key).unit or "1", "value": one.value,
            "range": f"{one.low:.6g} to {one.high:.6g}",
            "extra": f"runs: {len(group.made)}; "
                     f"{locked_stacks.label(group.first.info['fingerprint'])}",
        }
        for group in made for key, one in group.figures.items()
        if _metric(key).more_is_better == bigger
    ]


def openmetrics(made: Sequence[Group]) -> str:
    """A gauge a metric, labelled by config, kernels, device and protocol."""
    families: dict[str, list[str]] = {}
    for group in made:
        stack = group.first.info["fingerprint"]
        for key, one in group.figures.items():
            family, _, protocol = key.partition("/")
            labels = {
                "config": group.name, "device": stack.get("device"),
                "kernels": stack.get("kernels"), "stack": locked_stacks.label(stack),
            } | ({"protocol": protocol} if protocol else {})
            text = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
            families.setdefault(family, []).append(f"harness_{family}{{{text}}} {one.value!r}")
    lines = []
    for family, samples in sorted(families.items()):
        unit = METRICS[family].unit or "a number"
        lines += [f"# TYPE harness_{family} gauge", f"# HELP harness_{family} In {unit}.", *samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _metric(key: str) -> metrics.Metric:
    return METRICS[metrics.family(key)]


def _slug(key: str) -> str:
    return key.replace("/", "-").replace("_", "-").lower()[:64]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

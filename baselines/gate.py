"""The gate: runs against a recorded baseline, one verdict a metric.

better, same, worse; inconclusive (the machine was too noisy: run again); not comparable (why);
missing. Only better and same let a check pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from baselines import disturbances, gate_bits, gate_refusals, metrics, significance
from baselines.metrics import METRICS, Measured
from baselines.record import Baseline
from baselines.verdicts import Report, Verdict
from harness import runs
from harness.base.errors import DataError

# A check's run is disturbed when its steps scatter this much more than the baseline's did.
DISTURBED_TIMES, DISTURBED_LEAST = 3.0, 0.10
FEWEST_SEEDS = 3
# The same EMA weights by the same protocol give the same figure; what is left is the thread
# count of the evaluation, which moves it by some 1e-5.
SAME_WEIGHTS_TOLERANCE = 1e-3


def check(
    found: Sequence[runs.Run], baseline: Baseline, *, require_bits: bool = False,
    vouched: bool = False, only: Sequence[str] = (), kernels: str | None = None,
    turns: bool = False,
) -> Report:
    """Compare runs of one config with `baseline`.

    `require_bits` makes a check on another software stack fail, where losses can be compared
    by tolerance only. `vouched`: the caller made all the runs itself, from one config and one
    data set, so neither is asked for, nor who else kept the machine (for bisecting, which measures
    again). `only`: these metrics alone. `kernels`: what
    the baseline and the runs must have been computed by; None: by the same. `turns`: the runs took
    turns with the baseline's on this machine, one by one, and may differ in threads.
    """
    directories = [str(run.directory) for run in found]
    keys = _keys(baseline, only)
    refusal = None if vouched else gate_refusals.first_refusal(found, baseline, kernels)
    if refusal is None:
        try:
            measured = [metrics.measure(run, baseline.step) for run in found]
        except DataError as error:
            refusal = str(error)
    if refusal is not None:
        verdicts = [Verdict(key, "not comparable", refusal) for key in keys]
        return Report(baseline, directories, verdicts)
    verdicts = _compare(measured, baseline, keys, require_bits, turns, vouched or turns)
    return Report(baseline, directories, verdicts)


def _keys(baseline: Baseline, only: Sequence[str]) -> list[str]:
    keys = [*(gate_bits.KEYS if baseline.content["bits"] else ()), *baseline.content["metrics"]]
    return [key for key in keys if not only or metrics.family(key) in only]


def _compare(
    measured: list[Measured], baseline: Baseline, keys: list[str], require_bits: bool, turns: bool,
    any_conditions: bool,
) -> list[Verdict]:
    verdicts: dict[str, Verdict] = {}
    tests: dict[str, tuple[significance.Comparison, bool, Verdict]] = {}
    for key in keys:
        if key in gate_bits.KEYS:
            outcome = gate_bits.compare(key, measured, baseline)
            gates = outcome.verdict != "not comparable" or require_bits
            verdicts[key] = Verdict(
                key, outcome.verdict, outcome.reason, gates=gates,
                n=(len(baseline.content["runs"]), outcome.compared),
            )
            continue
        drawn = _draw(key, measured, baseline, turns)
        if not any_conditions and not isinstance(drawn, Verdict):
            drawn = _disturbed_machine(key, measured, baseline) or drawn
        if isinstance(drawn, Verdict):
            verdicts[key] = drawn
        else:
            tests[key] = drawn
    flags = [disturbed for _, disturbed, _ in tests.values()]
    named_ = significance.verdicts(
        [comparison for comparison, _, _ in tests.values()], disturbed=flags
    )
    for (key, (comparison, disturbed, draft)), verdict in zip(tests.items(), named_, strict=True):
        verdicts[key] = _worded(draft, comparison, verdict, disturbed)
    return [verdicts[key] for key in keys]


def _draw(
    key: str, measured: list[Measured], baseline: Baseline, turns: bool
) -> Verdict | tuple[significance.Comparison, bool, Verdict]:
    """A final verdict where no statistics are needed, else what they are to decide."""
    summary, metric = baseline.content["metrics"][key], METRICS[metrics.family(key)]
    having = [one for one in measured if key in one.values]
    if len(having) < len(measured) and (not having or key in metrics.MACHINE_METRICS):
        lacking = next(one for one in measured if key not in one.values)
        other = gate_refusals.other_protocol(key, lacking)
        return Verdict(key, "not comparable" if other else "missing",
                       other or f"{lacking.run.directory} has no {key} at step {baseline.step}")
    for one in having:
        value = one.values[key].value
        if not math.isfinite(value) or (metric.scale == "ratio" and value <= 0):
            return Verdict(key, "missing", f"{one.run.directory}: {key} is {value}")
        if reason := gate_refusals.unlike(key, one, baseline, turns):
            return Verdict(key, "not comparable", reason)
    minimum = _minimum(metric, summary, having, key)
    old = _seeded(zip(summary["seeds"], summary["values"], strict=True))
    new = _seeded((one.seed, one.values[key].value) for one in having)
    if key not in metrics.MACHINE_METRICS and new.keys() <= old.keys():
        verdict = _paired(key, old, new, minimum)
        return _evaluation_changed(verdict, metric, having, baseline) or verdict
    if key not in metrics.MACHINE_METRICS and len(old) < FEWEST_SEEDS:
        strange = min(new.keys() - old.keys())
        return Verdict(key, "not comparable", f"the baseline has no run of seed {strange} and "
                       f"fewer than {FEWEST_SEEDS} seeds to know their spread by")
    before, after = _flat(old), _flat(new)
    comparison = significance.compare(
        [metric.worse(v) for v in before], [metric.worse(v) for v in after], minimum=minimum,
        turns=turns,
    )
    return comparison, _disturbed(key, having, summary), _draft(key, before, after)


def _disturbed_machine(
    key: str, measured: list[Measured], baseline: Baseline
) -> Verdict | None:
    """`not comparable` where these runs' machine was throttled or shared, unlike the baseline's."""
    each = [one.values[key].conditions or {} for one in measured if key in one.values]
    usual = baseline.content["metrics"][key].get("conditions") or {}
    reason = disturbances.unlike(disturbances.of_runs(each), usual)
    return Verdict(key, "not comparable", reason, disturbed=True) if reason else None


def _seeded(pairs: Iterable[tuple[int, float]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for seed, value in pairs:
        found.setdefault(seed, []).append(value)
    return found


def _flat(values: dict[int, list[float]]) -> list[float]:
    return [value for some in values.values() for value in some]


def _minimum(
    metric: metrics.Metric, summary: dict[str, Any], having: list[Measured], key: str
) -> float:
    """The least effect that counts: the metric's own; for validation loss 3 standard errors."""
    errors = [summary.get("error"), *(one.values[key].error for one in having)]
    known = [error for error in errors if error is not None]
    if metrics.family(key) != "val_loss" or not known:
        return metric.minimum
    return 3 * max(known) / abs(summary["median"])


def _draft(key: str, old: list[float], new: list[float]) -> Verdict:
    before, after = significance.median(old), significance.median(new)
    relative = METRICS[metrics.family(key)].scale == "ratio"
    change = after / before - 1 if relative else after - before
    return Verdict(key, "", baseline=before, value=after, change=change, n=(len(old), len(new)))


def _paired(
    key: str, old: dict[int, list[float]], new: dict[int, list[float]], minimum: float
) -> Verdict:
    """The same seeds: the same data, noise and captions, so that nothing is left to chance.

    What counts is the minimum effect, and what runs of one seed differ by among themselves
    (nothing, where runs repeat to the bit).
    """
    metric = METRICS[metrics.family(key)]
    draft = _draft(key, _flat({seed: old[seed] for seed in new}), _flat(new))
    scaled_old = {seed: [metric.worse(value) for value in old[seed]] for seed in new}
    scaled = {seed: [metric.worse(value) for value in some] for seed, some in new.items()}
    median = significance.median
    steps = [median(scaled[seed]) - median(scaled_old[seed]) for seed in new]
    difference = sum(steps) / len(steps)
    least = max(minimum, *(max(some) - min(some) for some in scaled_old.values()))
    verdict = "same" if abs(difference) <= least else "worse" if difference > 0 else "better"
    return replace(draft, verdict=verdict, reason="same seeds", detectable=least)


def _evaluation_changed(
    verdict: Verdict, metric: metrics.Metric, having: list[Measured], baseline: Baseline
) -> Verdict | None:
    """Worse, in whichever direction, if weights that are the same are judged otherwise.

    Samples from raw in place of EMA weights, for instance, may have the better FID early in
    training, when the average still lags behind: no improvement, but an evaluation gone wrong.
    """
    known = baseline.content["bits"]
    same_weights = all(
        one.bits.ema is not None and one.bits.ema == known.get(str(one.seed), {}).get("ema")
        for one in having
    )
    evaluated = baseline.content["metrics"][verdict.metric].get("protocol") is not None
    if not (evaluated and same_weights and metric.scale == "ratio"):
        return None
    if verdict.change is None or abs(verdict.change) <= SAME_WEIGHTS_TOLERANCE:
        return None
    reason = "the same EMA weights gave another figure: the evaluation has changed"
    return replace(verdict, verdict="worse", reason=reason, detectable=SAME_WEIGHTS_TOLERANCE)


def _disturbed(key: str, having: list[Measured], summary: dict[str, Any]) -> bool:
    each = (one.values[key].noise for one in having)
    noises = [noise for noise in each if noise is not None]
    usual = summary.get("noise")
    if not noises or usual is None:
        return False
    return significance.median(noises) > max(DISTURBED_LEAST, DISTURBED_TIMES * usual)


def _worded(
    draft: Verdict, comparison: significance.Comparison, verdict: str, disturbed: bool
) -> Verdict:
    reason, needed = "", None
    if verdict == "inconclusive":
        needed = None if disturbed else comparison.needed
        detectable = math.expm1(comparison.detectable)
        if disturbed:
            reason = "the steps scatter far more than the baseline's: run again"
        elif comparison.too_noisy:
            reason = f"only changes above {detectable:.0%} would be seen: run again, or more runs"
        else:
            reason = f"not beyond chance (p = {comparison.p:.2g}): run again"
    return replace(
        draft, verdict=verdict, reason=reason, p=comparison.p, detectable=comparison.detectable,
        needed=needed,
    )

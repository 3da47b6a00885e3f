"""What must be identical: losses, weights and EMA, within one seed and one fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines import metrics
from baselines.metrics import Measured
from baselines.record import Baseline, named
from harness import configs
from harness.base.wording import counted

KEYS = ("loss_bits", "weights_bits", "ema_bits")


@dataclass(frozen=True)
class Outcome:
    """same, worse, missing or not comparable; `compared` runs took part."""

    verdict: str
    reason: str
    compared: int


def compare(key: str, measured: Sequence[Measured], baseline: Baseline) -> Outcome:
    """One verdict over all runs: a single differing one is worse."""
    outcomes = [_compare_one(key.removesuffix("_bits"), one, baseline) for one in measured]
    for verdict in ("worse", "missing", "same", "not comparable"):
        for found, reason in outcomes:
            if found == verdict:
                return Outcome(verdict, reason, _count(outcomes))
    raise ValueError("no runs to compare")


def _count(outcomes: list[tuple[str, str]]) -> int:
    return sum(verdict in ("same", "worse") for verdict, _ in outcomes)


def _compare_one(part: str, one: Measured, baseline: Baseline) -> tuple[str, str]:
    # A checkpoint that does not match its own manifest is broken whatever it is compared with.
    if part in one.bits.broken:
        return "worse", one.bits.broken[part]
    if not one.run.info.get("deterministic"):
        return "not comparable", f"{one.run.directory} was run with determinism off"
    if changes := one.run.stack_changes():
        return "not comparable", (
            f"{one.run.directory} went on with another stack after step {changes[0]['step']}"
        )
    differing = configs.differences(one.fingerprint, baseline.content["fingerprint"])
    if differing:
        return "not comparable", f"another fingerprint: {named(differing)}"
    expected = baseline.content["bits"].get(str(one.seed))
    if expected is None:
        return "not comparable", f"the baseline has no run of seed {one.seed}"
    found = getattr(one.bits, part)
    if found is None:
        return "missing", f"{one.run.directory} has no {part} at step {baseline.step}"
    if part == "loss":
        return _compare_curves(found, expected["loss"], one)
    if found != expected[part]:
        return "worse", (
            f"{one.run.directory}: {part} {found[:8]}, the baseline's {expected[part][:8]}"
        )
    return "same", ""


def _compare_curves(
    curve: list[tuple[int, str]], expected: dict[str, Any], one: Measured
) -> tuple[str, str]:
    chained = metrics.chain(curve)
    if chained[-1] == expected["sha256"] and len(curve) == expected["lines"]:
        return "same", ""
    at = {step: (text, digest[:16]) for (step, text), digest in zip(curve, chained, strict=True)}
    agreed = 0
    for step, text, digest in expected["anchors"]:
        if step not in at:
            return "missing", f"{one.run.directory} has no loss of step {step}"
        if at[step][1] != digest:
            there, here = float.fromhex(text), float.fromhex(at[step][0])
            return "worse", (
                f"{one.run.directory}: losses part after step {agreed}, by step {step} at the "
                f"latest (there {here!r}, in the baseline {there!r})"
            )
        agreed = step
    lines = counted(len(curve), "loss line")
    return "worse", f"{one.run.directory}: {lines} for {expected['lines']}"

"""What a check finds: one verdict a metric, and the outcome of them all."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.record import Baseline

PASSING = ("better", "same")


@dataclass(frozen=True)
class Verdict:
    """One metric's verdict. `change`: relative to the baseline, or a difference of shares.

    `gates`: whether it counts; a comparison that this machine cannot make does not. `needed`: runs
    a side that would most likely answer what is inconclusive, where that can be told.
    """

    metric: str
    verdict: str
    reason: str = ""
    baseline: float | None = None
    value: float | None = None
    change: float | None = None
    n: tuple[int, int] = (0, 0)
    p: float | None = None
    detectable: float | None = None
    needed: int | None = None
    gates: bool = True
    disturbed: bool = False  # not comparable because the machine was: run again

    @property
    def passes(self) -> bool:
        return self.verdict in PASSING

    @property
    def undecided(self) -> bool:
        """Whether to run again is what may answer."""
        return self.verdict == "inconclusive" or self.disturbed


@dataclass(frozen=True)
class Report:
    """A check's result: passed, failed or inconclusive, and why."""

    baseline: Baseline
    runs: list[str]
    verdicts: list[Verdict]

    @property
    def outcome(self) -> str:
        gating = [verdict for verdict in self.verdicts if verdict.gates]
        blocking = [verdict for verdict in gating if not verdict.passes]
        if gating and not blocking:
            return "passed"
        undecided = blocking and all(verdict.undecided for verdict in blocking)
        return "inconclusive" if undecided else "failed"

    @property
    def improved(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.verdict == "better"]

"""A/B: one config under two stacks or two settings, in turns on one machine, judged by the gate.

A B, B A, A B, ...: each run a fresh process, the two of a round in turns by steps or by runs, so
that a machine that becomes slower meets both sides alike; what both runs of a round share is no
part of the spread that a difference has to exceed (baselines.significance). The first run of each
side is evaluated: runs of one seed and one stack have the same bits, and whether they do is said.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from baselines import gate, record
from baselines.verdicts import Report
from harness import configs, files, runs
from harness.base import fingerprint
from harness.base.errors import UsageError
from harness.base.progress import say
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell
from harness.reproduction import divergence

SIDES = ("a", "b")
SCHEMA = 1


@dataclass(frozen=True)
class Drift:
    """How the losses of B part from those of A.

    `steps`: (step, |b - a| / |a|) of every step that both logged, infinite where one of them is
    not finite; `first`: the first of them at which the bits differ.
    """

    steps: list[tuple[int, float]]
    first: int | None

    @property
    def largest(self) -> tuple[int, float]:
        """(step, relative difference)."""
        return max(self.steps, key=lambda one: one[1])


@dataclass(frozen=True)
class Result:
    """What an A/B found: the gate's report of B against A, and how the two differ.

    `repeats`: whether all runs of a side have the same losses, bit for bit.
    """

    report: Report
    runs: Mapping[str, list[runs.Run]]
    drift: Drift
    repeats: Mapping[str, bool]
    differs: Mapping[str, tuple[Any, Any]]

    @property
    def outcome(self) -> str:
        """Of all verdicts together: worse, inconclusive, not comparable, better or same."""
        found = [one.verdict for one in self.report.verdicts]
        order = ("worse", "missing", "inconclusive", "not comparable", "better")
        return next((verdict for verdict in order if verdict in found), "same")


def run(
    sides: Mapping[str, Cell], out: Path, *, rounds: int, evaluation: Sequence[str] | None,
    retries: int = 0, turns: str | None = None,
) -> Result:
    """Run what is still to be run of `rounds` of A and B, and compare.

    `sides`: a cell for "a" and "b" each, whose directory is not looked at. `evaluation`: options
    of `harness eval`; None leaves it out. Raises the error of a run that fails.
    """
    turns = turns or _turns(sides)
    _keep_plan(sides, out, {"evaluation": evaluation, "turns": turns})
    placed = {
        side: [replace(sides[side], directory=out / "runs" / f"{side}-{n}") for n in range(rounds)]
        for side in SIDES
    }
    for _, ended in cells.train_all(
        in_turns(placed), "A/B", retries=retries, in_turns=turns == "steps"
    ):
        if ended.code:
            raise ended.error()
    if evaluation is not None:
        for side in SIDES:
            say(f"evaluating {placed[side][0].directory}")
            ended = cells.evaluate(placed[side][0], *evaluation)
            if ended.code:
                raise ended.error()
    return judge({side: [runs.load(one.directory) for one in placed[side]] for side in SIDES})


def in_turns(placed: Mapping[str, Sequence[Any]]) -> list[Any]:
    """A B, B A, A B, ..."""
    pairs = zip(placed["a"], placed["b"], strict=True)
    return [one for n, pair in enumerate(pairs) for one in (reversed(pair) if n % 2 else pair)]


def judge(found: Mapping[str, list[runs.Run]]) -> Result:
    """B's runs against A's, both in the order of their rounds."""
    first_a, first_b = found["a"][0], found["b"][0]
    baseline = record.record(found["a"], "A", vouched=True, bits=False)
    record.record(found["b"], "B", vouched=True, bits=False)  # refuses runs that are not alike
    return Result(
        gate.check(found["b"], baseline, vouched=True, turns=True),
        found,
        drift(first_a, first_b),
        {side: all(drift(some[0], one).first is None for one in some[1:])
         for side, some in found.items()},
        configs.differences(_described(first_a), _described(first_b)),
    )


def _described(one: runs.Run) -> dict[str, Any]:
    """What a run's figures depend on beside its data."""
    made_by = {"commit": one.info.get("commit")}
    return {"config": one.info["config"], **one.info["fingerprint"], **made_by}


def drift(a: runs.Run, b: runs.Run) -> Drift:
    """Compare the losses of the steps that both logged."""
    first = {line["step"]: divergence.recorded_loss(line) for line in a.metrics()}
    second = {line["step"]: divergence.recorded_loss(line) for line in b.metrics()}
    steps, parted = [], None
    for step in sorted(first.keys() & second.keys()):
        x, y = first[step], second[step]
        if parted is None and (x is None or y is None or x.hex() != y.hex()):
            parted = step
        apart = math.inf if x is None or y is None else divergence.relative(y, x)
        steps.append((step, apart))
    return Drift(steps, parted)


def _turns(sides: Mapping[str, Cell]) -> str:
    """By steps where that is sure to fit: a card may not hold two trainings."""
    plain = not any(side.arguments for side in sides.values())
    return "steps" if plain and not shutil.which("nvidia-smi") else "runs"


def _keep_plan(sides: Mapping[str, Cell], out: Path, how: Mapping[str, Any]) -> None:
    """Note what is compared in `out`, or refuse one that holds another comparison's runs."""
    described = {side: {**asdict(sides[side]), "directory": None} for side in SIDES}
    plan = {"schema": SCHEMA, "commit": fingerprint.git_commit(), **how}
    plan = json.loads(json.dumps({**plan, **described}, default=str))
    path = out / "plan.json"
    if not path.exists():
        with files.writing(path):
            out.mkdir(parents=True, exist_ok=True)
            files.atomic_write_json(path, plan)
        return
    before = files.read_json(path)
    files.refuse_newer(before, SCHEMA, path)
    if differing := configs.differences(before, plan):
        raise UsageError(
            f"{out} holds another comparison: {record.named(differing)}",
            remedy="give another -o DIR, or remove it",
        )

"""Is one run better than another? Pairs of samples until that is decided, and no more of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from eval.evaluation import evaluate_run
from eval.metrics import paired_distances, repeated_looks
from eval.protocols import Protocol
from harness import files, runs
from harness.base.progress import say
from harness.distributed.process_group import World

SCHEMA = 1
UNDECIDED = "undecided"
_VERDICTS = (None, "better", "worse", "equal")
BOUND = (
    "each of the planned looks has an equal part of the error rate (Bonferroni), so that it holds "
    "over all of them; a look's interval is Student's over the influences of pairs of blocks"
)


def compare(
    a: runs.Run, b: runs.Run, *, protocol: Protocol, steps: tuple[int, int],
    minimum_effect: float, error_rate: float, data: Path | None = None, **places: Any,
) -> dict[str, Any] | None:
    """What `a` is against `b`: better, worse, equal or undecided, as JSON values.

    Both are sampled by `protocol` with `data` (default: a's), at the checkpoints `steps`; its N is
    the most pairs. `equal`: the distances differ by less than `minimum_effect` of b's. A verdict
    is wrong in at most `error_rate` of such comparisons, whatever the number of looks. None where
    another process leads.
    """
    world = places.get("world") or World.alone()
    data = data or a.data_directory
    rows = min(max(a.config.eval.batch_size, b.config.eval.batch_size), protocol.n_samples)
    planned = repeated_looks.planned(protocol.n_samples, rows)
    looks: list[dict[str, Any]] = []
    verdict, metric = None, ""
    for samples in planned:
        drawn = [
            evaluate_run.draw_of_run(
                run, protocol=protocol, step=step, samples=samples, data=data, **places
            )
            for run, step in zip((a, b), steps, strict=True)
        ]
        metric = drawn[0].metric
        features_a, features_b = (d.features[:samples] for d in drawn)
        found = paired_distances.difference(features_a, features_b, drawn[0].reference)
        low, high = repeated_looks.interval(found, error_rate=error_rate, looks=len(planned))
        verdict = repeated_looks.verdict(low, high, minimum=minimum_effect * found.b)
        # As the leader has it: workers on unlike machines must not part here.
        verdict = _VERDICTS[int(world.lead(_VERDICTS.index(verdict)))]
        looks.append({
            "samples": samples, **dataclasses.asdict(found), "difference": found.value,
            "low": low, "high": high,
        })  # fmt: skip
        if world.leads:
            say(f"{samples:,} pairs: difference {found.value:.4g}, {low:.4g} to {high:.4g}")
        if verdict:
            break
    if not world.leads:
        return None
    return {
        "schema": SCHEMA, "runs": [a.name, b.name], "steps": list(steps),
        "protocol": protocol.name, "metric": metric, "minimum_effect": minimum_effect,
        "error_rate": error_rate, "bound": BOUND, "planned": planned, "looks": looks,
        "samples": looks[-1]["samples"], "verdict": verdict or UNDECIDED,
        "prompts": drawn[0].prompts,
    }


def name(document: dict[str, Any], other: runs.Run) -> str:
    """What a comparison's directory is called: a function of what was compared, and how."""
    said = [document[key] for key in ("runs", "steps", "protocol", "minimum_effect", "error_rate")]
    said.append(str(other.directory.resolve()))
    return f"against-{files.json_digest(said)[:8]}"

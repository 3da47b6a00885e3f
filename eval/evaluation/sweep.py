"""A grid of ordinary evaluations of one run, and what they say together.

Every point is a directory under RUN/eval/ as `harness eval --fid` makes it, so that a sweep that
was killed goes on by what is there. Points share captions and noise: sample j is for the same
caption and begins at the same noise in all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.captions import CaptionList
from eval.evaluation import evaluate_run, evaluation_task, halving
from eval.evaluation.sweep_axes import Point
from eval.metrics import feature_statistics, frechet, paired_distances, reference_statistics
from eval.sampling import finished_blocks
from harness import files, runs
from harness.base.errors import UsageError
from harness.distributed.process_group import World

SCHEMA = 1


def sweep(
    run: runs.Run, points: Sequence[Point], *, budget: int | None = None, **places: Any
) -> dict[str, Any] | None:
    """Evaluate every point; what is said of them together, as JSON values (None: another leads).

    `budget`: at most so many samples in all, by `halving`. `places`: what `evaluate_run` takes
    beside run, protocol and step. The document says nothing of time: it is the same however often
    the sweep was interrupted. UsageError for fewer samples than a half can be judged by.
    """
    n_samples = points[0].protocol.n_samples
    if n_samples < 2 * halving.LEAST:
        raise UsageError(
            f"a sweep of {n_samples} samples a point",
            remedy=f"give --n-samples, at least {2 * halving.LEAST}",
        )
    dropped = _halve(run, points, budget, places) if budget else {}
    losses: dict[int, dict[str, Any]] = {}
    results = []
    for point in (p for i, p in enumerate(points) if i not in dropped):
        found = evaluate_run.evaluate_run(
            run, protocol=point.protocol, step=point.step, loss=losses.get(point.step), **places
        )
        losses[point.step] = (found or {}).get("validation", {})
        results.append(found)
    leads = (places.get("world") or World.alone()).leads
    return _document(run, points, results, dropped, places) if leads else None


def name(run: runs.Run, points: Sequence[Point], budget: int | None) -> str:
    """What a sweep's directory is called: a function of its points."""
    said = [[p.step, p.protocol.name] for p in points] + [[budget, run.info["digest"]]]
    return f"sweep-{files.json_digest(said)[:8]}"


def _halve(
    run: runs.Run, points: Sequence[Point], budget: int, places: dict[str, Any]
) -> dict[int, tuple[int, float]]:
    """Point's index -> (samples, distance) at which it was dropped."""
    world = places.get("world") or World.alone()
    protocol = points[0].protocol
    rows = min(run.config.eval.batch_size, protocol.n_samples)
    plan = halving.rungs(len(points), protocol.n_samples, rows, budget)
    dropped: dict[int, tuple[int, float]] = {}
    alive = list(range(len(points)))
    for (size, _), (_, count) in itertools.pairwise(plan):
        distances = []
        for i in alive:
            drawn = evaluate_run.draw_of_run(
                run, protocol=points[i].protocol, step=points[i].step, samples=size, **places
            )
            found = feature_statistics.of_features(drawn.features[:size])
            # As the leader has it, or workers on unlike machines might part here.
            distances.append(world.lead(frechet.distance(found, drawn.reference)))
        going = halving.kept(distances, [points[i].calls for i in alive], count)
        dropped |= {
            i: (size, distances[k]) for k, i in enumerate(alive) if k not in going
        }
        alive = [alive[k] for k in going]
    return dropped


def _document(
    run: runs.Run, points: Sequence[Point], results: list[Any],
    dropped: dict[int, tuple[int, float]], places: dict[str, Any],
) -> dict[str, Any]:
    finished = [i for i in range(len(points)) if i not in dropped]
    task = evaluate_run.task_of(run, points[0].step, points[0].protocol, **places)
    captions = evaluation_task.open_captions(task)
    halves = caption_halves(captions)
    distances, moves, half = [], [], []
    for i in finished:
        features = _features(run.evaluation(points[i].step, points[i].protocol.name))
        reference = feature_statistics.load(
            reference_statistics.find(task.data, task.reference), size=features.shape[1]
        )
        distance, moved = paired_distances.influences(features, reference)
        distances.append(distance)
        moves.append(moved)
        half.append([_distance(features[halves == h], reference) for h in (0, 1)])
    calls = [points[i].calls for i in finished]
    best, chosen = int(np.argmin(distances)), int(np.argmin([a for a, _ in half]))
    described: dict[int, dict[str, Any]] = {}
    for k, i in enumerate(finished):
        behind = moves[k] - moves[best]
        described[i] = {
            "metrics": results[k]["metrics"], "distance": distances[k], "halves": half[k],
            "behind_the_best": {
                "difference": distances[k] - distances[best],
                "standard_error": float(behind.std(ddof=1) / np.sqrt(len(behind))),
            },
        }  # fmt: skip
    for i, (size, distance) in dropped.items():
        described[i] = {"dropped_after": size, "distance": distance}
    return {
        "schema": SCHEMA, "run": run.name, "metric": next(iter(results[0]["metrics"])),
        "n_samples": task.protocol.n_samples, "prompts": captions.first_prompts(),
        "points": [
            {"step": p.step, "protocol": p.protocol.name, "settings": dict(p.settings),
             "network_calls": p.calls, **described[i]}
            for i, p in enumerate(points)
        ],
        "front": [finished[k] for k in halving.front(distances, calls)],
        "best": finished[best], "chosen": finished[chosen],
    }  # fmt: skip


def caption_halves(captions: CaptionList) -> np.ndarray:
    """0 or 1 for each sample: every other image of the list, wherever it comes again."""
    images = captions.pairs[:, 0]
    _, first, inverse = np.unique(images, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # rank of each image by where it comes first
    return order[inverse] % 2


def _distance(features: np.ndarray, reference: feature_statistics.Statistics) -> float:
    return frechet.distance(feature_statistics.of_features(features), reference)


def _features(directory: Path) -> np.ndarray:
    return np.concatenate(
        [block.features for block in finished_blocks.stored(directory / "features").all()]
    )

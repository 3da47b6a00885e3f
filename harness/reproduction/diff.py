"""What differs between two recorded runs: settings, stack, and from which step on the results."""

from __future__ import annotations

from typing import Any

from harness import configs, files, runs
from harness.base.errors import DataError
from harness.base.wording import printable
from harness.files import tensor_files
from harness.reproduction import divergence
from harness.runs import checkpoints

SCHEMA = 1
PARTS = {"model": "weights", "ema": "ema", "optimizer": "optimizer"}


def diff(a: runs.Run, b: runs.Run) -> dict[str, Any]:
    """The report (JSON values): config, stack, data, losses, checkpoints, findings, identical.

    `identical`: every loss and tensor that both recorded has the same bits, at least one
    was compared, and nothing that was read is broken. Settings that differ without
    consequence (data workers, recompute) leave two runs identical.
    """
    config = configs.differences(a.info["config"], b.info["config"])
    if a.seed != b.seed:
        config["seed"] = (a.seed, b.seed)
    stack = configs.differences(a.info["fingerprint"], b.info["fingerprint"])
    for key in ("commit", "stack_changes"):
        if a.info.get(key) != b.info.get(key):
            stack[key] = (a.info.get(key), b.info.get(key))
    report: dict[str, Any] = {
        "schema": SCHEMA, "runs": [str(a.directory), str(b.directory)],
        "config": _lists(config), "stack": _lists(stack), "data": _data(a, b), "findings": [],
    }
    report["losses"] = losses = _losses(a, b, report["findings"])
    report["checkpoints"] = saved = _checkpoints(a, b, losses["first_divergence"], report)
    compared = losses["compared"] + sum(1 for one in saved if one["compared"])
    same = losses["differing"] == 0 and not any(one["tensors"] for one in saved)
    report["identical"] = bool(compared and same and not report["findings"])
    return report


def _lists(differences: dict[str, tuple[Any, Any]]) -> dict[str, list[Any]]:
    return {key: list(values) for key, values in differences.items()}


def _data(a: runs.Run, b: runs.Run) -> list[Any] | None:
    """The two data digests, where both were recorded and differ."""
    for key in ("digest", "sampled_digest"):
        digests = [(run.info.get("data") or {}).get(key) for run in (a, b)]
        if None not in digests:
            return digests if digests[0] != digests[1] else None
    return None


def _losses(a: runs.Run, b: runs.Run, findings: list[dict[str, str]]) -> dict[str, Any]:
    first, second = _metrics(a, findings), _metrics(b, findings)
    common = sorted(first.keys() & second.keys())
    found: dict[str, Any] = {
        "compared": len(common), "differing": 0, "first_divergence": None, "largest": None,
        "only_in_first": _span(first.keys() - second.keys()),
        "only_in_second": _span(second.keys() - first.keys()),
    }
    largest = -1.0
    for step in common:
        x, y = (divergence.recorded_loss(lines[step]) for lines in (first, second))
        if x is not None and y is not None and x.hex() == y.hex():
            continue
        found["differing"] += 1
        if found["first_divergence"] is None:
            found["first_divergence"] = step
        apart = float("inf") if x is None or y is None else divergence.relative(x, y)
        if apart > largest:
            largest = apart
            found["largest"] = {
                "step": step, "relative": files.finite(apart),
                "losses": [first[step].get("loss"), second[step].get("loss")],
            }
    return found


def _metrics(run: runs.Run, findings: list[dict[str, str]]) -> dict[int, dict[str, Any]]:
    try:
        return {line["step"]: line for line in run.metrics()}
    except DataError as error:
        findings.append({"where": str(run.metrics_file), "what": str(error)})
        return {}


def _span(steps: Any) -> dict[str, int] | None:
    """How many steps, and the first and last of them; None if there are none."""
    return {"count": len(steps), "first": min(steps), "last": max(steps)} if steps else None


def _checkpoints(
    a: runs.Run, b: runs.Run, diverged: int | None, report: dict[str, Any]
) -> list[dict[str, Any]]:
    """Compare the checkpoints on both sides of the first diverging step, or the newest common."""
    common = sorted(set(a.checkpoint_steps()) & set(b.checkpoint_steps()))
    if diverged is None:
        chosen = common[-1:]
    else:
        before = [step for step in common if step < diverged][-1:]
        chosen = before + [step for step in common if step >= diverged][:1]
    return [_compare(a, b, step, report["findings"]) for step in chosen]


def _compare(
    a: runs.Run, b: runs.Run, step: int, findings: list[dict[str, str]]
) -> dict[str, Any]:
    for run in (a, b):
        try:
            checkpoints.check(run.checkpoint(step))
        except DataError as error:
            findings.append({"where": str(run.checkpoint(step)), "what": str(error)})
    found: dict[str, Any] = {"step": step, "compared": False, "parts": {}, "tensors": []}
    for part, name in PARTS.items():
        try:
            x, y = (
                tensor_files.read(run.checkpoint(step) / f"{part}.safetensors")
                for run in (a, b)
            )
        except DataError:  # among the findings already
            continue
        apart, differing = divergence.tensors(x, y)
        found["compared"] = True
        found["parts"][name] = {
            "tensors": len(x), "differing": len(differing),
            "relative": files.finite(apart),
        }
        found["tensors"] += [{"part": name, **one} for one in differing]
    return found


def text(report: dict[str, Any], *, most: int = 10) -> str:
    """The report in words; at most `most` tensors of each checkpoint (`--json` has all)."""
    first, second = report["runs"]
    lines = [f"a: {first}", f"b: {second}"]
    for title in ("config", "stack"):
        lines += [f"{title}: {key} is {x!r} in a, {y!r} in b"
                  for key, (x, y) in report[title].items()]
    if report["data"]:
        lines.append("data: digest {} in a, {} in b".format(*report["data"]))
    lines += [f"{one['where']}: {one['what']}" for one in report["findings"]]
    lines += _loss_text(report["losses"])
    if not report["checkpoints"]:
        lines.append("checkpoints: there is no step that both have one of")
    for one in report["checkpoints"]:
        lines += _checkpoint_text(one, most)
    said = "identical, bit for bit" if report["identical"] else "different"
    return printable("\n".join([*lines, f"results: {said}"]))


def _loss_text(losses: dict[str, Any]) -> list[str]:
    lines = []
    if losses["first_divergence"] is None:
        lines.append(f"losses: {losses['compared']} steps compared, all identical")
    else:
        most = losses["largest"]
        size = "not finite" if most["relative"] is None else f"{most['relative']:.3g} relative"
        lines.append(
            f"losses: first difference at step {losses['first_divergence']}, "
            f"{losses['differing']} of {losses['compared']} steps differ, the most by {size} "
            f"(step {most['step']}: {most['losses'][0]} and {most['losses'][1]})"
        )
    for key, which in (("only_in_first", "a"), ("only_in_second", "b")):
        if span := losses[key]:
            lines.append(f"losses: {span['count']} steps only in {which} "
                         f"({span['first']} to {span['last']})")
    return lines


def _checkpoint_text(one: dict[str, Any], most: int) -> list[str]:
    counts = ", ".join(f"{name} {part['differing']} of {part['tensors']}"
                       for name, part in one["parts"].items())
    if not one["tensors"]:
        return [f"checkpoint of step {one['step']}: no tensor differs ({counts})"]
    lines = [f"checkpoint of step {one['step']}: tensors that differ: {counts}"]
    lines += [f"  {t['part']}: {divergence.describe(t)}" for t in one["tensors"][:most]]
    if len(one["tensors"]) > most:
        lines.append(f"  and {len(one['tensors']) - most} more (--json lists all)")
    return lines

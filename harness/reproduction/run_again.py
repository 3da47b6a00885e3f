"""Re-run part of a recorded run from its own run.json, and say where it comes out otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import configs, data, files, runs
from harness.base import fingerprint
from harness.base.errors import DataError, UsageError
from harness.base.progress import Progress
from harness.base.wording import printable
from harness.distributed.process_group import World
from harness.files import tensor_files
from harness.reproduction import divergence, log_audit
from harness.reproduction.divergence import DIFFERENT, IDENTICAL
from harness.runs import checkpoints
from harness.training.step import NonFiniteLoss, Trainer
from harness.training.train import micro_batches, shares, stack_with

SCHEMA = 1


def verify(
    run: runs.Run, *, data_directory: Path | None = None, start: int | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Repeat `steps` steps of `run` (default: all recorded) after step `start`; the report.

    `start`: the beginning (the default), or a step of which there is a checkpoint (imported
    weights begin from theirs). Nothing is written. The report
    (JSON values): verdict, findings, steps (each logged step's and checkpoint's verdicts),
    first_divergence, largest_difference, stack. UsageError if there is nothing to compare.
    """
    start = start or run.first_step
    loaded = start > 0 or bool(run.info.get("imported"))
    report: dict[str, Any] = {
        "schema": SCHEMA, "run": str(run.directory), "verdict": DIFFERENT, "from": start,
        "through": start, "bits_promised": False, "stack": {}, "commit": None, "steps": [],
        "first_divergence": None, "largest_difference": {},
    }
    report["findings"] = log_audit.settings(run)
    if report["findings"]:
        return report  # which config is the true one cannot be known, so none is run
    config = run.config
    report["findings"] = log_audit.log(run, config) + log_audit.saved(run)
    if loaded and start not in run.checkpoint_steps():
        there = ", ".join(map(str, run.checkpoint_steps())) or "none"
        raise UsageError(
            f"{run.directory} has no checkpoint of step {start}",
            remedy=f"choose with --from; there are: {there}",
        )
    end = _end(run, start, steps)
    if loaded and (broken := _unusable(run, start)):
        report["findings"].append(broken)
        return report
    source = _source(run, config, data_directory, report)
    _compare_stacks(run, report, end, source)
    report["through"] = end
    report["steps"] = list(_repeat(run, config, source, report, start, end))
    _sum_up(report)
    return report


def _end(run: runs.Run, start: int, steps: int | None) -> int:
    with contextlib.suppress(DataError):
        lines = [line["step"] for line in run.metrics()]
        last = min(max([*lines, *run.checkpoint_steps()], default=0), run.config.train.max_steps)
        if last <= start:
            raise UsageError(f"{run.directory} has nothing recorded after step {start}")
        return last if steps is None else min(last, start + steps)
    return max([start, *run.checkpoint_steps()])


def _unusable(run: runs.Run, start: int) -> log_audit.Finding | None:
    try:
        checkpoints.check(run.checkpoint(start))
    except DataError as error:
        return log_audit.finding(run.checkpoint(start), f"cannot be started from: {error}")
    return None


def _compare_stacks(
    run: runs.Run, report: dict[str, Any], end: int, source: data.Source
) -> None:
    stack = runs.stack_differences(run, stack_with(source, run.config))
    for change in run.stack_changes():
        if change["step"] < end:
            after = f"after step {change['step']}"
            stack |= {f"{key} ({after})": tuple(v) for key, v in change["differs"].items()}
    report["stack"] = {key: list(values) for key, values in stack.items()}
    report["bits_promised"] = bool(run.info["deterministic"]) and not stack
    here = fingerprint.git_commit()
    if run.info.get("commit") != here:
        report["commit"] = [run.info.get("commit"), here]


def _source(
    run: runs.Run, config: configs.Config, directory: Path | None, report: dict[str, Any]
) -> data.Source:
    recorded = run.info.get("data") or {}
    directory = directory or run.data_directory
    source = data.open_source(config, run.seed, directory)
    digest = data.describe(directory, source)["sampled_digest"]
    if recorded.get("sampled_digest") not in (None, digest):
        report["findings"].append(
            log_audit.finding(
                directory, "does not hold the data that the run was trained on"
            ))
    return source


def _repeat(
    run: runs.Run, config: configs.Config, source: data.Source, report: dict[str, Any],
    start: int, end: int,
) -> Iterator[dict[str, Any]]:
    """Train again; yields a row for each recorded step."""
    lines = _lines(run)
    saved = [step for step in run.checkpoint_steps() if start < step <= end]
    trainer = Trainer(config, run.seed)
    if start or run.info.get("imported"):
        found = checkpoints.load(
            run.checkpoint(start), config_digest=run.info["digest"], seed=run.seed)
        trainer.load(found.step, found.parts, found.state)
    shards = [shard for shard, _ in shares(config, World.alone())]
    batches = data.prefetch(source, micro_batches(config, start), config.data.num_workers)
    with contextlib.closing(batches), Progress(
        end, f"verify {run.name}", start=start, unit="step"
    ) as progress:
        while trainer.step < end:
            try:
                loss, _ = trainer.train(zip(shards, batches, strict=False))
            except NonFiniteLoss as error:
                report["findings"].append(log_audit.finding("the repetition", str(error)))
                return
            progress.advance()
            step = trainer.step
            row: dict[str, Any] = {"step": step}
            if step in lines:
                row |= _loss_row(lines[step], loss, report["bits_promised"])
            if step in saved:
                row |= _tensor_row(run, trainer, report["bits_promised"])
            if len(row) > 1:
                yield row


def _lines(run: runs.Run) -> dict[int, dict[str, Any]]:
    try:
        return {line["step"]: line for line in run.metrics()}
    except DataError:  # a finding already; the checkpoints can still be compared
        return {}


def _loss_row(line: dict[str, Any], loss: float, promised: bool) -> dict[str, Any]:
    recorded = divergence.recorded_loss(line)
    if recorded is None:
        return {"loss": DIFFERENT, "loss_here": loss.hex(), "loss_there": None}
    apart = divergence.relative(loss, recorded)
    said = divergence.verdict(apart, same_bits=loss.hex() == recorded.hex(), bits_promised=promised)
    if said == IDENTICAL:
        return {"loss": said}
    return {"loss": said, "loss_here": loss.hex(), "loss_there": recorded.hex(),
            "loss_relative": files.finite(apart)}


def _tensor_row(run: runs.Run, trainer: Trainer, promised: bool) -> dict[str, Any]:
    """Verdicts for weights, EMA and optimizer against the checkpoint of the trainer's step.

    The files are read whether or not they match their manifest, so that the tensor
    that was changed can be named.
    """
    row: dict[str, Any] = {"tensors": []}
    parts, _ = trainer.state()
    for part, key in (("model", "weights"), ("ema", "ema"), ("optimizer", "optimizer")):
        path = run.checkpoint(trainer.step) / f"{part}.safetensors"
        try:
            apart, differing = divergence.tensors(parts[part], tensor_files.read(path))
        except DataError as error:
            row[key] = DIFFERENT
            row["tensors"].append({"part": key, "name": path.name, "what": str(error)})
            continue
        row[key] = divergence.verdict(apart, same_bits=not differing, bits_promised=promised)
        row["tensors"] += [{"part": key, **one} for one in differing]
    return row


_KEYS = ("loss", "weights", "ema", "optimizer")


def _sum_up(report: dict[str, Any]) -> None:
    rows = report["steps"]
    verdicts = [row[key] for row in rows for key in _KEYS if key in row]
    report["verdict"] = DIFFERENT if report["findings"] else divergence.worst(verdicts)
    for row in rows:
        if what := [key for key in _KEYS if row.get(key) not in (None, IDENTICAL)]:
            report["first_divergence"] = {"step": row["step"], "what": what}
            break
    losses = [row for row in rows if "loss_here" in row]
    if losses:
        most = max(losses, key=lambda row: divergence.size(row.get("loss_relative")))
        report["largest_difference"]["loss"] = {
            "step": most["step"], "relative": most.get("loss_relative")}
    changed = [{"step": row["step"], **one} for row in rows for one in row.get("tensors", [])]
    if changed:
        report["largest_difference"]["tensor"] = max(
            changed, key=lambda one: divergence.size(one.get("relative")))


def text(report: dict[str, Any]) -> str:
    """The report in words, for a terminal."""
    lines = [f"{report['run']}: steps {report['from'] + 1} to {report['through']} repeated"]
    lines += [f"  {one['where']}: {one['what']}" for one in report["findings"]]
    if report["steps"]:
        lines += _table(report["steps"])
    for key, (there, here) in report["stack"].items():
        lines.append(f"  stack: {key} was {there!r}, is {here!r}")
    if report["commit"]:
        lines.append("  harness: commit was {}, is {}".format(*report["commit"]))
    if first := report["first_divergence"]:
        lines.append(f"first difference: step {first['step']}, {', '.join(first['what'])}")
    largest = report["largest_difference"]
    if "loss" in largest:
        apart = largest["loss"]["relative"]
        size = "not finite" if apart is None else f"{apart:.3g} relative"
        lines.append(f"largest difference of a loss: {size}, at step {largest['loss']['step']}")
    if "tensor" in largest:
        one = largest["tensor"]
        lines.append(f"largest difference of a tensor: step {one['step']}, {one['part']}, "
                     f"{divergence.describe(one)}")
    return printable("\n".join([*lines, "verdict: " + _conclusion(report)]))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Consecutive steps of the same verdicts share a line."""
    lines = [f"  {'steps':>17}  {'loss':<17}{'weights':<17}{'ema':<17}optimizer"]
    for verdicts, group in groupby(rows, key=lambda row: [row.get(key, "") for key in _KEYS]):
        steps = [row["step"] for row in group]
        span = str(steps[0]) if len(steps) == 1 else f"{steps[0]}..{steps[-1]}"
        lines.append(f"  {span:>17}  " + "".join(f"{v or '-':<17}" for v in verdicts).rstrip())
    return lines


def _conclusion(report: dict[str, Any]) -> str:
    verdict = report["verdict"]
    if verdict == IDENTICAL:
        return "identical, bit for bit"
    if verdict == DIFFERENT:
        return "differs"
    why = "the stacks differ" if report["stack"] else "the run was made with determinism off"
    return f"within tolerance ({divergence.TOLERANCE:g} relative); no bits are promised: {why}"

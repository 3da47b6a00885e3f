"""What can be said of a recorded run without computing anything: does it contradict itself?"""

from __future__ import annotations

import itertools
from typing import Any

from harness import configs, runs
from harness.base.errors import DataError, HarnessError
from harness.base.wording import printable
from harness.reproduction.divergence import recorded_loss
from harness.runs import checkpoints
from harness.training.learning_rate import learning_rate
from harness.training.logged_values import is_logged, logged_steps

Finding = dict[str, str]
_MOST = 1000  # missing lines that are told one by one


def finding(where: Any, what: str) -> Finding:
    """One thing that is wrong, and where."""
    return {"where": str(where), "what": printable(what)}


def settings(run: runs.Run) -> list[Finding]:
    """run.json against its digest, and against what each checkpoint says of itself."""
    found, info, where = [], run.info, run.directory / "run.json"
    try:
        config = configs.from_values(info["config"], source=str(where))
        if configs.digest(config) != info["digest"]:
            found.append(finding(where, "the config does not match its digest"))
        if info.get("deterministic") is not (config.train.determinism == "on"):
            found.append(finding(where, "`deterministic` is not what the config says"))
        if info.get("pinned") and not configs.is_pinned(config):
            found.append(finding(where, "the run says pinned, but its config is not the shipped"))
    except HarnessError as error:
        found.append(finding(where, str(error)))
    for step in run.checkpoint_steps():
        try:
            manifest = checkpoints.read_manifest(run.checkpoint(step))
        except DataError:
            continue  # `saved` says so
        recorded = manifest.get("config")
        theirs = {"config": recorded if isinstance(recorded, dict) else info["config"],
                  "digest": manifest["config_digest"], "seed": manifest.get("seed")}
        ours = {key: info[key] for key in theirs}
        for key, (here, there) in configs.differences(ours, theirs).items():
            key = key.removeprefix("config.")
            found.append(finding(where, f"{key} is {here!r}, the checkpoint of step {step} was "
                                        f"made with {there!r}"))
        if found:
            break  # the others say the same
    return found


def log(run: runs.Run, config: configs.Config) -> list[Finding]:
    """metrics.jsonl: every line there once and in order, its decimals and rate as its step has."""
    try:
        lines = run.metrics()
    except DataError as error:
        return [finding(run.metrics_file, str(error))]
    found, seen = [], []
    for line in lines:
        step, loss = line["step"], recorded_loss(line)
        seen.append(step)
        if loss is None or loss != line.get("loss"):
            found.append(finding(
                run.metrics_file, f"step {step}: loss {line.get('loss')!r} and loss_hex "
                f"{line.get('loss_hex')!r} are not the same number"))
        expected = learning_rate(config.optim, step, config.train.max_steps)
        if line.get("lr") != expected:
            found.append(finding(
                run.metrics_file,
                f"step {step}: lr {line.get('lr')!r}, the config gives {expected!r}"))
    last, known = max([*seen, *run.checkpoint_steps(), 0]), set(seen)
    # Steps beyond the last line were never logged, unless a checkpoint says that they were run.
    expected_steps = logged_steps(config.train, last, after=run.first_step)
    missing = (step for step in expected_steps if step not in known)
    for step in itertools.islice(missing, _MOST):
        found.append(finding(run.metrics_file, f"the line of step {step} is missing"))
    if (step := next(missing, None)) is not None:
        found.append(finding(run.metrics_file, f"more lines are missing from step {step} on"))
    for step in sorted(known):
        if step <= run.first_step or not is_logged(config.train, step):
            found.append(finding(run.metrics_file, f"step {step} is not one that is logged"))
    if seen != sorted(set(seen)):
        found.append(finding(run.metrics_file, "steps are repeated or out of order"))
    return found


def saved(run: runs.Run) -> list[Finding]:
    """Every checkpoint against its manifest."""
    found = []
    for step in run.checkpoint_steps():
        try:
            checkpoints.check(run.checkpoint(step))
        except DataError as error:
            found.append(finding(run.checkpoint(step), str(error)))
    return found

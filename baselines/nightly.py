"""A night's benchmark as one plain script: `make nightly`, or `python -m baselines.nightly`.

For every config of the matrix: short runs of fixed steps, one evaluation, the gate against a
recorded baseline. Left behind in OUT: `report/` (harness report, with the earlier nights),
`junit/CONFIG.xml`, `checks/CONFIG.json` and `.md`, `records/` (this night as a candidate for
a baseline), and in the history, under the runner's name, a light copy of every run (run.json, logs,
results) and the checks, with `night.json`: of which `harness history build` makes pages.

--smoke goes the whole way on a CPU with the digits configs. Having no earlier night it makes
its own baseline from runs that take turns with those that are checked against it, so that a
change in the machine's load meets both alike.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from harness import files
from harness.base import fingerprint
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell
from harness.distributed import child_commands, program

MATRIX = ("small", "small_deep", "mid")
SMOKE_MATRIX = ("digits_tiny", "digits_tiny_deep")
# The framework's own, which a night watches: a CPU would run the harness's by default.
KERNELS = ("--kernels", "paddle")
RUNS, RETRIES = 5, 2
KEPT = ("run.json", "metrics.jsonl", "timing.jsonl", "eval/*/result.json")


@dataclass(frozen=True)
class Night:
    """What one night does, and where."""

    configs: tuple[str, ...]
    data: Path
    out: Path
    history: Path
    baselines: Path
    runner: str
    until: int
    evaluation: tuple[str, ...]  # options of `harness eval`
    smoke: bool
    link: str | None = None  # where people find this night's report; None: where it lies

    def name(self, config: str) -> str:
        """The baseline's name: a machine of its own for each runner."""
        return f"{config}-{self.runner}"


@click.command("nightly")
@click.option("--smoke", is_flag=True, help="The whole way on a CPU, digits configs, minutes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Artefacts of this night.  [default: nightly/<date>]")
@click.option("--history", type=click.Path(file_okay=False, path_type=Path),
              default=Path("nightly/history"), show_default=True,
              help="Light copies of every night's runs, one folder a night.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path),
              help="[default: data/coco256_features; smoke: data/digits, made if it is missing]")
@click.option("--baselines", type=click.Path(file_okay=False, path_type=Path),
              default=Path("baselines/recorded"), show_default=True)
@click.option("--runner", default="gpu", show_default=True, help="Ends the baselines' names.")
@click.option("--configs", help="Comma-separated.  [default: the matrix]")
@click.option("--until", type=click.IntRange(min=1), help="Steps a run.  [default: 300; smoke: 20]")
@click.option("--link", help="An address of this night's report, for the history's pages.")
def main(
    smoke: bool, out: Path | None, history: Path, data: Path | None, baselines: Path, runner: str,
    configs: str | None, until: int | None, link: str | None,
) -> None:
    """Run a night's benchmark; exit 3 if a gate failed, 5 if a step could not be run."""
    today = datetime.date.today().isoformat()
    out = out or Path("nightly") / today
    matrix = SMOKE_MATRIX if smoke else MATRIX
    night = Night(
        configs=tuple(configs.split(",")) if configs else matrix,
        data=data or Path("data") / ("digits" if smoke else "coco256_features"),
        out=out, history=out / "history" if smoke else history,
        baselines=out / "baselines" if smoke else baselines,
        runner="smoke" if smoke else runner, until=until or (20 if smoke else 300),
        evaluation=("--protocol", "digits-ddim20-200", "--n-samples", "50") if smoke
        else ("--n-samples", "1000"),
        smoke=smoke, link=link,
    )
    if smoke and not night.data.is_dir():
        _harness("data", "digits", night.data)
    out.mkdir(parents=True, exist_ok=True)
    raise SystemExit(run(night, today))


def run(night: Night, today: str) -> int:
    """Every config of the matrix, then the report; the exit code."""
    _refuse_others(night)
    outcomes = {config: _config(night, config) for config in night.configs}
    keep(night, today)
    _report(night)
    for config, outcome in outcomes.items():
        click.echo(f"{config}: {outcome}")
    click.echo(str(night.out / "report" / "report.html"))
    # What a smoke run tests is the way there; a busy machine is no fault of it.
    fine = {"passed", "inconclusive"} if night.smoke else {"passed"}
    return 0 if set(outcomes.values()) <= fine else 3


def _refuse_others(night: Night) -> None:
    """A night that was cut short is gone on with; runs of other code would be judged as ours."""
    commit = fingerprint.git_commit()
    for path in sorted((night.out / "runs").glob("*/run.json")):
        if (made_by := json.loads(path.read_text()).get("commit")) != commit:
            click.echo(f"nightly: {path.parent} was made by commit {made_by}, this is {commit}: "
                       "give another --out, or remove it", err=True)
            raise SystemExit(2)


def _run(night: Night, config: str, number: int) -> Path:
    return night.out / "runs" / f"{config}-{number}"


def _config(night: Night, config: str) -> str:
    runs = [_run(night, config, number) for number in range(RUNS)]
    if night.smoke:
        earlier = [path.with_name(f"{path.name}-baseline") for path in runs]
        for pair in zip(earlier, runs, strict=True):
            for path in pair:
                _train(night, config, path)
        _evaluate(night, earlier[0])
        _harness("baseline", "record", *earlier, "--name", night.name(config), "--dir",
                 night.baselines, "--replace")
    else:
        for path in runs:
            _train(night, config, path)
    _evaluate(night, runs[0])
    _record(night, config, runs)
    return _gate(night, config, runs)


def _train(night: Night, config: str, directory: Path) -> None:
    click.echo(f"$ harness train {config} --output-dir {directory}", err=True)
    _must(cells.train(
        Cell(config, night.data, directory, until=night.until, arguments=KERNELS)
    ))


def _evaluate(night: Night, directory: Path) -> None:
    """One evaluation is enough: runs of one seed have the same bits, and the gate sees to it."""
    click.echo(f"$ harness eval {directory} --fid", err=True)
    _must(cells.evaluate(
        Cell("", night.data, directory, arguments=KERNELS), *night.evaluation
    ))


def _must(ended: cells.Ended) -> None:
    """A cell's step has to succeed: if it does not, its output is shown and the night ends."""
    if ended.code:
        click.echo(f"{ended.stderr[-4000:]}\nnightly: {ended}", err=True)
        raise SystemExit(5)


def _record(night: Night, config: str, runs: Sequence[Path]) -> None:
    """This night as a baseline to be: reviewed and copied, it replaces the one that gates."""
    process = _call("baseline", "record", *runs, "--name", night.name(config), "--dir",
                    night.out / "records", "--replace")
    if process.returncode:
        click.echo(f"{config}: no candidate baseline: {process.stderr.strip()}", err=True)


def _gate(night: Night, config: str, runs: list[Path]) -> str:
    """Check, and while the machine is too noisy to tell, run again; the outcome."""
    for folder in ("junit", "checks"):
        (night.out / folder).mkdir(parents=True, exist_ok=True)
    for retry in range(RETRIES + 1):
        process = _check(night, config, runs)
        if process.returncode not in (0, 3):
            click.echo(process.stderr.strip(), err=True)
            return "no baseline" if process.returncode == 2 else "error"
        outcome = json.loads(process.stdout)["outcome"]
        if outcome != "inconclusive" or retry == RETRIES or night.smoke:
            break
        more = [_run(night, config, len(runs) + number) for number in range(RUNS)]
        for path in more:
            _train(night, config, path)
        runs = [*runs, *more]
    (night.out / "checks" / f"{config}.json").write_text(process.stdout)
    # Annotations are for the log of the CI that runs this.
    click.echo("".join(line for line in process.stderr.splitlines(True) if line[:2] == "::"))
    return outcome


def _check(night: Night, config: str, runs: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    summary = night.out / "checks" / f"{config}.md"
    summary.unlink(missing_ok=True)  # the gate appends, as GitHub wants it
    return _call(
        "check", *runs, "--baseline", night.name(config), "--dir", night.baselines, "--json",
        "--junit", night.out / "junit" / f"{config}.xml", "--github",
        GITHUB_STEP_SUMMARY=str(summary),
    )


def keep(night: Night, today: str) -> None:
    """Light copies (no weights, no images) for the history, a night's folder at a time.

    Below it, a folder for each runner: several may keep one history.
    """
    folder = night.history / today / night.runner
    for run_json in sorted((night.out / "runs").glob("*/run.json")):
        source = run_json.parent
        for pattern in KEPT:
            for path in source.glob(pattern):
                _copy(path, folder / source.name / path.relative_to(source))
    for path in night.out.glob("checks/*.json"):
        _copy(path, folder / "checks" / path.name)
    report = night.link or os.path.relpath(night.out / "report" / "report.html", night.history)
    (folder / "figures.json").unlink(missing_ok=True)  # of before this night was gone on with
    files.atomic_write_json(
        folder / "night.json", {"schema": 1, "runner": night.runner, "report": report})


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _report(night: Night) -> None:
    first = [night.out / "runs" / f"{config}-0" for config in night.configs]
    _harness("report", *first, "-o", night.out / "report", "--history", night.history)


def _call(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    click.echo("$ harness " + " ".join(command[3:]), err=True)
    environment = {**os.environ, **variables}
    return child_commands.run(command, env=environment)


def _harness(*arguments: object) -> None:
    """A step that has to succeed: if it does not, its output is shown and the night ends."""
    process = _call(*arguments)
    if process.returncode:
        click.echo(process.stderr[-4000:], err=True)
        click.echo(f"nightly: `harness {arguments[0]}` ended with {process.returncode}", err=True)
        raise SystemExit(75 if process.returncode == 75 else 5)


if __name__ == "__main__":
    program.run(main)

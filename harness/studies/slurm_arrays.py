"""A study's cells as arrays of batch jobs: Slurm decides where and when, nothing of ours does.

What a job runs is `harness study cell`. On SIGTERM, before the time limit or when it is preempted,
a cell saves and ends with 75, and its job goes back into the queue; a job whose machine dies is put
there by Slurm (--requeue).
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import files, runs
from harness.base.errors import EnvironmentFault, UsageError
from harness.studies import study_directory as on_disk
from harness.studies import study_run
from harness.studies.study_file import Study, StudyCell

_MOST = 1_000  # jobs of an array: Slurm's MaxArraySize is 1001 unless set otherwise
_NOTICE = 120  # seconds to save before the time limit
_TEMPLATE_LIMIT = 1 << 16  # bytes


@dataclass(frozen=True)
class Asked:
    """What Slurm is asked for a cell. `template`: lines for the batch script, #SBATCH ones too.

    `time` as sbatch takes it, `gpus` on each machine, `jobs`: so many of an array at a time.
    """

    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpus: int | None = None
    template: Path | None = None
    jobs: int | None = None


def submit(
    study: Study, directory: Path, asked: Asked, *, data: Path | None = None, retries: int = 0,
    adopt: Path | None = None,
) -> list[str]:
    """Put every cell that is neither done nor in the queue there; the numbers of the arrays."""
    template = _template(asked.template)
    on_disk.begin(directory, study)
    with runs.locked(directory):
        left = study_run.prepare(study, directory, data=data, adopt=adopt)
        there = queue(directory)
        left = [one for one in left if one.id not in there]
        options = study_run.options(data, retries)
        return [
            _submit(study, directory, asked, left[at:at + _MOST], template, options)
            for at in range(0, len(left), _MOST)
        ]


def queue(directory: Path) -> dict[str, bool]:
    """The cells whose jobs are in Slurm's queue -> whether they have begun, not wait.

    None of a study that was never given to Slurm; EnvironmentFault if Slurm cannot be asked.
    """
    lists = {str(path.resolve()): path for path in (directory / "slurm").glob("*.cells")}
    if not lists:
        return {}
    found: dict[str, bool] = {}
    for line in _call("squeue", "--me", "--array", "--noheader", "--format=%t %K %k").splitlines():
        state, index, path = (*line.split(" ", 2), "", "")[:3]
        if path in lists and index.isdigit():
            names = files.read_bytes(path, limit=1 << 20).decode(errors="replace").split()
            found |= {name: state != "PD" for name in names[int(index):int(index) + 1]}
    return found


def script(study: Study, directory: Path, cells: Path, template: str, options: list[str]) -> str:
    """The batch script of an array of the cells that `cells` lists, one a line."""
    words = study_run.command(directory, "CELL", options)
    at = words.index("CELL")
    before, after = shlex.join(words[:at]), shlex.join(words[at + 1:])
    return f"""#!/bin/bash
{template}
export PYTHONPATH={shlex.quote(study_run.environment()["PYTHONPATH"])}
cell=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(cells))})
srun --cpus-per-task={study.threads * study.nproc} {before} "$cell" {after}
code=$?
# 75: stopped, and saved. The job goes on from there.
[ $code -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"
exit $code
"""


def _submit(
    study: Study, directory: Path, asked: Asked, cells: Sequence[StudyCell], template: str,
    options: list[str],
) -> str:
    directory = directory.resolve()
    folder, logs = directory / "slurm", directory / "logs"
    logs.mkdir(exist_ok=True)
    number = 1 + max((int(one.stem) for one in folder.glob("*.cells")), default=0)
    # By its path, in the jobs' comment, they are found in the queue.
    listed = folder / f"{number}.cells"
    files.atomic_write_bytes(listed, "".join(f"{one.id}\n" for one in cells).encode())
    text = script(study, directory, listed, template, options)
    files.atomic_write_bytes(listed.with_suffix(".sbatch"), text.encode())
    log = str(logs).replace("%", "%%") + "/slurm-%A_%a.txt"
    words = [
        "sbatch", "--parsable", f"--job-name={study.name}", f"--comment={listed}",
        f"--array=0-{len(cells) - 1}" + (f"%{asked.jobs}" if asked.jobs else ""),
        f"--nodes={study.nnodes}", "--ntasks-per-node=1",
        f"--cpus-per-task={study.threads * study.nproc}", f"--signal=TERM@{_NOTICE}", "--requeue",
        "--open-mode=append", f"--output={log}", f"--error={log}",
    ]
    for name, value in (("partition", asked.partition), ("account", asked.account),
                        ("time", asked.time), ("gpus-per-node", asked.gpus)):
        words += [] if value is None else [f"--{name}={value}"]
    return _call(*words, str(listed.with_suffix(".sbatch"))).strip().partition(";")[0]


def _template(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return files.read_bytes(path, limit=_TEMPLATE_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the template {path} is not UTF-8 text") from error


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"{words[0]} is not here", remedy="run this where Slurm is") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"{words[0]} does not answer", remedy="try again later") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvironmentFault(f"{words[0]} fails: {said}")
    return done.stdout

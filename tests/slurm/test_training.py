"""The batch script of docs/distributed.md, as it stands there, under Slurm itself."""

import json
import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from tests import command
from tests.command import harness
from tests.slurm.cluster import cluster, needed

pytestmark = needed
PAGE = command.ROOT / "docs" / "distributed.md"


def script():
    (found,) = re.findall(r"^    #!/bin/bash\n(?:(?: {4}.*)?\n)+", PAGE.read_text(), re.M)
    return textwrap.dedent(found)


@pytest.fixture(scope="module")
def slurm():
    # The command as `source .venv/bin/activate` puts it on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    with cluster(nodes=2, **command.environment(PATH=path)) as slurm:
        (slurm.folder / "train.sbatch").write_text(script())
        yield slurm


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("slurm") / "digits"
    process = harness("data", "digits", path)
    assert process.returncode == 0, process.stderr
    return path


def submit(slurm, data, directory, *options):
    """digits_tiny as shipped, with evaluation and grids; the grids sooner."""
    settings = ("--set", "train.image_steps=40", "--set", "train.log_steps=1")
    return slurm.sbatch(
        "train.sbatch", "digits_tiny", "--nproc", 1, "--data", data,
        "--output-dir", directory, *settings, *options,
    )


def steps(directory):
    log = directory / "metrics.jsonl"
    whole = list(log.read_text().split("\n")[:-1]) if log.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def newest(directory):
    return max((int(path.name) for path in (directory / "checkpoints").glob("[0-9]*")), default=0)


def bits(directory, step):
    manifest = directory / "checkpoints" / f"{step:08d}" / "manifest.json"
    return (directory / "metrics.jsonl").read_bytes(), json.loads(manifest.read_text())


def test_stopped_in_every_way_of_slurms_the_job_ends_with_the_same_bits(slurm, data, tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    number = submit(slurm, data, run)

    slurm.until(number, lambda: steps(run) > 0)
    # The signal that is due 120 s before the limit is due at once; Slurm looks every 30 s.
    slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=2")
    slurm.until(number, lambda: slurm.job(number)["Restarts"] == "1")
    slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    limit = newest(run)
    assert f"stopped at step {limit} after saving" in slurm.log(number)

    slurm.until(number, lambda: steps(run) > limit)
    slurm.call("scontrol", "requeue", number)
    slurm.until(number, lambda: slurm.job(number)["JobState"] == "PENDING")
    requeued = newest(run)
    assert requeued > limit, slurm.log(number)

    slurm.until(number, lambda: steps(run) > requeued)
    slurm.call("scancel", number)
    slurm.until(number, lambda: not slurm.call("squeue", "--noheader", "--jobs", number))
    cancelled = newest(run)
    assert cancelled > requeued, slurm.log(number)
    assert slurm.job(number)["JobState"] == "CANCELLED"  # and not in the queue again

    end = cancelled + 5
    for number in [submit(slurm, data, directory, "--until", end) for directory in (run, alone)]:
        slurm.wait(number, "COMPLETED")
    assert bits(run, end) == bits(alone, end)

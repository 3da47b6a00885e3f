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
STEPS = 40


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


def submit(slurm, data, directory):
    """digits_tiny as shipped, with evaluation and grids, but few steps."""
    settings = (f"max_steps={STEPS}", "save_steps=30", "image_steps=20", "log_steps=1")
    overrides = [word for one in settings for word in ("--set", f"train.{one}")]
    return slurm.sbatch(
        "train.sbatch", "digits_tiny", "--nproc", 1, "--data", data,
        "--output-dir", directory, *overrides,
    )


def steps(directory):
    log = directory / "metrics.jsonl"
    whole = [line for line in log.read_text().split("\n")[:-1]] if log.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def newest(directory):
    return max((int(path.name) for path in (directory / "checkpoints").glob("[0-9]*")), default=0)


def bits(directory):
    manifest = directory / "checkpoints" / f"{STEPS:08d}" / "manifest.json"
    return (directory / "metrics.jsonl").read_bytes(), json.loads(manifest.read_text())


def test_stopped_in_every_way_of_slurms_the_job_ends_with_the_same_bits(slurm, data, tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    number = submit(slurm, data, alone)
    slurm.wait(number, "COMPLETED")

    number = submit(slurm, data, run)
    slurm.until(number, lambda: steps(run) >= 4)
    # Of minutes: the signal that --signal asks for 120 s before the end is due at once.
    slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=2")
    slurm.until(number, lambda: slurm.job(number)["Restarts"] == "1")
    slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    first = newest(run)
    assert "SIGTERM: finishing this step" in slurm.log(number) and first >= 4, slurm.log(number)

    slurm.until(number, lambda: steps(run) > first)
    slurm.call("scontrol", "requeue", number)
    slurm.until(number, lambda: slurm.job(number)["JobState"] == "PENDING")
    second = newest(run)
    assert second > first, slurm.log(number)

    slurm.until(number, lambda: steps(run) > second)
    slurm.call("scancel", number)
    slurm.wait(number, "CANCELLED")
    third = newest(run)
    assert third > second, slurm.log(number)

    again = submit(slurm, data, run)
    slurm.wait(again, "COMPLETED")
    assert slurm.job(number)["JobState"] == "CANCELLED"
    assert bits(run) == bits(alone)

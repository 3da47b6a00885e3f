"""The tests' own Slurm: jobs run on every node, and nothing of it outlives a failure."""

import psutil
import pytest

from tests.slurm.cluster import cluster, needed, running

pytestmark = needed


def test_jobs_run_on_every_node_and_nothing_is_left_after_a_failure():
    with pytest.raises(RuntimeError, match="a test's"), cluster(nodes=3) as slurm:
        (slurm.folder / "job").write_text("#!/bin/sh\nsrun printenv SLURMD_NODENAME\nsleep 600\n")
        number = slurm.sbatch("--nodes=3", "job")
        slurm.until(number, lambda: len(slurm.log(number).split()) == 3)
        assert {"n2", "n3"} < set(slurm.log(number).split())
        assert slurm.job(number)["JobState"] == "RUNNING"
        began = running(slurm)
        names = {process.name() for process in began}
        assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= names
        raise RuntimeError("a test's")
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in began)
    assert not running(slurm) and not slurm.folder.exists()

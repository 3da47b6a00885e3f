"""`harness study run --executor slurm` under Slurm itself: whatever ends a job, no cell is lost."""

import contextlib
import json
import os

import psutil
import pytest

from harness.studies import one_cell, study_directory, study_file
from tests import command
from tests.command import assert_one_line_error, harness
from tests.harness.studies.made import bits, write_study
from tests.slurm.cluster import cluster, needed, running

pytestmark = needed


@pytest.fixture(scope="module")
def slurm():
    with cluster(nodes=2, **command.environment(PATH=f"{os.environ['PATH']}:/usr/sbin")) as slurm:
        yield slurm


class Studied:
    """A study of the tiny config, so many steps long, and its place."""

    def __init__(self, slurm, folder, features, *more, steps=300, seeds="[1, 2]"):
        self.slurm, self.features = slurm, features
        long = f'long = ["train.max_steps={steps}", "train.save_steps=50"]'
        self.path = write_study(folder, *more, "[variants]", long, steps=steps, seeds=seeds)
        self.study = study_file.load(self.path)
        self.out, self.alone = folder / "out", folder / "alone"

    def harness(self, *words):
        env = {key: self.slurm.environment[key] for key in ("SLURM_CONF", "PATH")}
        return harness(*words, **env)

    def run(self, *options):
        return self.harness("study", "run", self.path, "-o", self.out, "--data", self.features,
                            "--executor", "slurm", *options)

    def job(self):
        """Submit what is neither done nor queued; the array's number."""
        ended = self.run()
        assert ended.returncode == 0, ended.stderr
        return ended.stderr.strip().removeprefix("submitted: job ")

    def states(self):
        ended = self.harness("study", "status", self.out, "--json")
        assert ended.returncode == 0, ended.stderr
        return [one["state"] for one in json.loads(ended.stdout)["cells"]]

    def step(self, number):
        log = self.out / f"cells/tiny-s{number}/metrics.jsonl"
        whole = log.read_bytes().splitlines()[:-1] if log.exists() else []
        return json.loads(whole[-1])["step"] if whole else 0

    def wait(self, job, *which, seconds=400):
        wanted = [one.id for one in self.study.cells() if one.seed in which]
        self.slurm.until(job, lambda: all(
            study_directory.state(self.out, one).done for one in wanted), seconds)

    def assert_bits(self, *which):
        study_directory.begin(self.alone, self.study)
        for one in [one for one in self.study.cells() if one.seed in which]:
            ended = one_cell.work(self.study, self.alone, one, data=self.features)
            assert ended.code == 0, ended
            first, second = (
                study_directory.run_directory(at, one.id) for at in (self.out, self.alone))
            assert bits(first) == bits(second)


def test_a_cell_put_back_and_one_cancelled_end_with_the_bits_of_undisturbed_ones(
    slurm, features, tmp_path
):
    there = Studied(slurm, tmp_path, features)
    ended = there.run("--partition", "nowhere")
    assert_one_line_error(ended, 5, "sbatch fails", "partition")
    job = there.job()
    slurm.until(job, lambda: there.step(1) > 0 and there.step(2) > 0)
    assert there.states() == ["running", "running"]
    assert there.run().stderr == ""  # they are in the queue
    slurm.call("scontrol", "requeue", f"{job}_0")
    slurm.call("scancel", f"{job}_1")
    slurm.until(job, lambda: f"{job}_1" not in slurm.call("squeue", "--array", "--format=%i"))
    assert there.states()[0] in ("queued", "running") and there.states()[1] == "stopped"
    again = there.job()
    assert again != job
    there.wait(again, 1, 2)
    assert there.states() == ["done", "done"]
    there.assert_bits(1)


def test_a_cell_of_two_machines_finds_them_by_slurms_variables(slurm, features, tmp_path):
    there = Studied(slurm, tmp_path, features, "nnodes = 2", steps=6, seeds="[1]")
    there.wait(there.job(), 1)
    (one,) = there.study.cells()
    run = study_directory.run_directory(there.out, one.id)
    assert json.loads((run / "run.json").read_text())["fingerprint"]["world_size"] == 2
    assert study_directory.state(there.out, one.id).attempts == 1


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_through_a_time_limit_a_dead_machine_and_a_drained_one_no_cell_is_lost(
    features, tmp_path
):
    """A cluster of its own, of which one machine is dead in the end."""
    with cluster(nodes=2, **command.environment(PATH=f"{os.environ['PATH']}:/usr/sbin")) as slurm:
        there = Studied(slurm, tmp_path, features, steps=2000)
        job = there.job()
        cells = {1: f"{job}_0", 2: f"{job}_1"}
        slurm.until(job, lambda: there.step(1) > 0 and there.step(2) > 0)
        # The signal that is due 120 s before the limit is due at once; Slurm looks every 30 s.
        slurm.call("scontrol", "update", f"JobId={cells[1]}", "TimeLimit=2")
        slurm.until(job, lambda: slurm.job(cells[1])["Restarts"] == "1")
        slurm.call("scontrol", "update", f"JobId={cells[1]}", "TimeLimit=60")
        slurm.until(job, lambda: slurm.job(cells[1])["JobState"] == "RUNNING")

        lost = next(seed for seed in cells if slurm.job(cells[seed])["NodeList"] == "n2")
        other, before = 3 - lost, there.step(lost)
        for process in running(slurm):
            with contextlib.suppress(psutil.Error):
                on = process.environ().get("SLURMD_NODENAME")
                if on == "n2" or process.cmdline()[-1:] == ["n2"]:  # slurmd -D -N n2
                    process.kill()
        slurm.call("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=killed")
        slurm.until(job, lambda: slurm.job(cells[lost])["JobState"] == "PENDING")
        alive = slurm.job(cells[other])["NodeList"]
        slurm.call("scontrol", "update", f"NodeName={alive}", "State=DRAIN", "Reason=test")
        there.wait(job, other, seconds=600)
        assert not study_directory.state(there.out, there.study.cells()[lost - 1].id).done
        slurm.call("scontrol", "update", f"NodeName={alive}", "State=RESUME")
        there.wait(job, lost, seconds=600)
        assert there.step(lost) > before
        assert there.states() == ["done", "done"]
        there.assert_bits(lost)

"""`harness study run --executor slurm` under Slurm itself: whatever ends a job, no cell is lost."""

import json
import os

import pytest

from harness.studies import one_cell, study_directory, study_file
from tests import command
from tests.command import assert_one_line_error, harness
from tests.harness.studies.made import bits, write_study
from tests.slurm.cluster import cluster, needed

pytestmark = needed
LONG = ("[variants]", 'long = ["train.max_steps=300", "train.save_steps=50"]')


@pytest.fixture(scope="module")
def slurm():
    with cluster(nodes=2, **command.environment(PATH=f"{os.environ['PATH']}:/usr/sbin")) as slurm:
        yield slurm


class Studied:
    """A study of two cells of 300 steps, and its place."""

    def __init__(self, slurm, folder, features):
        self.slurm, self.features = slurm, features
        self.path = write_study(folder, *LONG, steps=300)
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

    def until(self, job, met):
        self.slurm.until(job, met)

    def wait(self, job):
        self.until(job, lambda: all(
            study_directory.state(self.out, one.id).done for one in self.study.cells()))

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
    there.until(job, lambda: there.step(1) > 0 and there.step(2) > 0)
    assert there.states() == ["running", "running"]
    assert there.run().stderr == ""  # they are in the queue
    slurm.call("scontrol", "requeue", f"{job}_0")
    slurm.call("scancel", f"{job}_1")
    there.until(job, lambda: f"{job}_1" not in slurm.call("squeue", "--array", "--format=%i"))
    assert there.states()[0] in ("queued", "running") and there.states()[1] == "stopped"
    again = there.job()
    assert again != job
    there.wait(again)
    assert there.states() == ["done", "done"]
    there.assert_bits(1)

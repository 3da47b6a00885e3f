"""`harness study run --executor slurm` under Slurm itself: whatever ends a job, no cell is lost."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.base import container_limits
from harness.studies import one_cell, study_directory, study_file
from tests import command
from tests.command import assert_one_line_error, harness
from tests.harness.studies.made import bits, evaluations, write_study
from tests.slurm.cluster import cluster, needed

pytestmark = needed
DIGITS = """
name = "digits-on-slurm"
question = "Do a scheduler's faults change bits?"
configs = ["digits_tiny", "digits_tiny_deep"]
seeds = [1, 2, 3]
steps = 60
evaluate = [20, 60]

[protocols.quick]
protocol = "digits-ddim20-200"
n_samples = 100
"""


@pytest.fixture(scope="module")
def slurm():
    with cluster(nodes=2, **command.environment(PATH=f"{os.environ['PATH']}:/usr/sbin")) as slurm:
        yield slurm


def tiny(folder, *more, steps=300, seeds="[1, 2]"):
    """A study of the tiny config, so many steps long: it neither evaluates nor draws."""
    long = f'long = ["train.max_steps={steps}", "train.save_steps=50"]'
    return write_study(folder, *more, "[variants]", long, steps=steps, seeds=seeds)


class Studied:
    """A study on `slurm`, its directory, and the jobs that its cells have there."""

    def __init__(self, slurm, path, data, out):
        self.slurm, self.path, self.data, self.out = slurm, path, data, out
        self.study = study_file.load(path)
        self.cells = [one.id for one in self.study.cells()]
        self.jobs = {}

    def harness(self, *words):
        env = {key: self.slurm.environment[key] for key in ("SLURM_CONF", "PATH")}
        return harness(*words, **env)

    def run(self, *options):
        return self.harness("study", "run", self.path, "-o", self.out, "--data", self.data,
                            "--executor", "slurm", *options)

    def job(self, *options):
        """Submit what is neither done nor queued; the array's number."""
        ended = self.run(*options)
        assert ended.returncode == 0, ended.stderr
        number = ended.stderr.strip().removeprefix("submitted: job ")
        newest = max((self.out / "slurm").glob("*.cells"), key=lambda path: int(path.stem))
        for index, cell in enumerate(newest.read_text().split()):
            self.jobs[cell] = f"{number}_{index}"
        return number

    def states(self):
        ended = self.harness("study", "status", self.out, "--json")
        assert ended.returncode == 0, ended.stderr
        return [one["state"] for one in json.loads(ended.stdout)["cells"]]

    def step(self, cell):
        log = study_directory.run_directory(self.out, cell) / "metrics.jsonl"
        whole = log.read_bytes().splitlines()[:-1] if log.exists() else []
        return json.loads(whole[-1])["step"] if whole else 0

    def evaluating(self, cell):
        begun = study_directory.run_directory(self.out, cell).glob("eval/*/features")
        return any(not (path.parent / "result.json").exists() for path in begun)

    def done(self, cell):
        return study_directory.state(self.out, cell).done

    def on(self, *nodes):
        """Cells that Slurm runs on one of `nodes`."""
        told = self.slurm.call("squeue", "--array", "--noheader", "--format=%i", "--states=RUNNING",
                               f"--nodelist={','.join(nodes)}").split()
        return [cell for cell in self.cells if self.jobs[cell] in told and not self.done(cell)]

    def restarts(self, cell):
        return int(self.slurm.job(self.jobs[cell])["Restarts"])

    def waits(self, cell):
        return self.slurm.job(self.jobs[cell])["JobState"] == "PENDING"

    def catch(self, *nodes, training=False):
        """A cell on one of `nodes` in the middle of it: of an evaluation, where it has any."""
        evaluates = self.study.evaluate and not training
        found, before = [], {cell: self.step(cell) for cell in self.cells}

        def caught():
            found[:] = [cell for cell in self.on(*nodes) if (
                self.evaluating(cell) if evaluates
                else self.step(cell) != before[cell] and not self.evaluating(cell))]
            return found

        self.slurm.until(next(iter(self.jobs.values())), caught, 600)
        return found[0]

    def wait(self, *cells, seconds=600):
        def ended():
            known = {cell: study_directory.state(self.out, cell) for cell in cells}
            failed = {cell: one for cell, one in known.items() if one.code not in (None, 0, 75)}
            assert not failed, failed
            return all(one.done for one in known.values())

        self.slurm.until(self.jobs[cells[0]], ended, seconds)

    def assert_bits(self, alone, *cells):
        """Of weights, moments, EMA, log and evaluations: those of cells run one by one."""
        study_directory.begin(alone, self.study)
        for one in [one for one in self.study.cells() if one.id in cells]:
            ended = one_cell.work(self.study, alone, one, data=self.data)
            assert ended.code == 0, ended
            first, second = (study_directory.run_directory(at, one.id) for at in (self.out, alone))
            assert bits(first) == bits(second), one.id
            assert evaluations(first) == evaluations(second), one.id
            found = [len(list(first.glob(f"eval/*/{name}"))) for name in ("result.json",
                                                                       "samples.png")]
            assert found == [len(self.study.evaluated_steps(one.axes))] * 2


def test_a_cell_put_back_and_one_cancelled_end_with_the_bits_of_undisturbed_ones(
    slurm, features, tmp_path
):
    there = Studied(slurm, tiny(tmp_path), features, tmp_path / "out")
    first, second = there.cells
    ended = there.run("--partition", "nowhere")
    assert_one_line_error(ended, 5, "sbatch fails", "partition")
    job = there.job()
    slurm.until(job, lambda: there.step(first) > 0 and there.step(second) > 0)
    assert there.states() == ["running", "running"]
    assert there.run().stderr == ""  # they are in the queue
    slurm.call("scontrol", "requeue", f"{job}_0")
    slurm.call("scancel", f"{job}_1")
    slurm.until(job, lambda: f"{job}_1" not in slurm.call("squeue", "--array", "--format=%i"))
    assert there.states()[0] in ("queued", "running") and there.states()[1] == "stopped"
    again = there.job()
    assert again != job
    there.wait(first, second)
    assert there.states() == ["done", "done"]
    there.assert_bits(tmp_path / "alone", first)


def test_a_cell_of_two_machines_finds_them_by_slurms_variables(slurm, features, tmp_path):
    path = tiny(tmp_path, "nnodes = 2", steps=6, seeds="[1]")
    there = Studied(slurm, path, features, tmp_path / "out")
    there.job()
    (one,) = there.cells
    there.wait(one)
    run = study_directory.run_directory(there.out, one)
    assert json.loads((run / "run.json").read_text())["fingerprint"]["world_size"] == 2
    assert study_directory.state(there.out, one).attempts == 1


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_cell_put_back_while_its_processes_go_on_waits_for_them(features, tmp_path):
    """As after a crash of a node's daemon, or where only the controller does not reach it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    with cluster(nodes=2, **command.environment(PATH=path)) as slurm:
        study = tiny(tmp_path, steps=3000, seeds="[1]")
        there = Studied(slurm, study, features, tmp_path / "out")
        job = there.job()
        (one,) = there.cells
        slurm.until(job, lambda: there.step(one) > 0)
        slurm.lose_daemon(slurm.job(f"{job}_0")["NodeList"])
        slurm.until(job, lambda: there.restarts(one) and not there.waits(one))
        assert not there.done(one)
        there.wait(one, seconds=1200)
        slurm.until(job, lambda: slurm.job(f"{job}_0")["JobState"] == "COMPLETED")
        there.assert_bits(tmp_path / "alone", one)


@dataclass(frozen=True)
class Case:
    """A study's file, its data, and where its cells are run one by one."""

    path: Path
    data: Path
    alone: Path


@pytest.fixture(scope="module", params=[
    pytest.param("tiny", marks=pytest.mark.faults), pytest.param("digits", marks=pytest.mark.slow)])
def case(request, features, tmp_path_factory):
    """The tiny config; or, as users run them, the digits' two sizes, with evaluations and grids."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "tiny":
        return Case(tiny(folder, steps=2000), features, folder / "alone")
    assert harness("data", "digits", folder / "data").returncode == 0
    (folder / "study.toml").write_text(DIGITS)
    return Case(folder / "study.toml", folder / "data", folder / "alone")


@pytest.mark.timeout(5400)
@pytest.mark.skipif(container_limits.usable() < 2, reason="two cells need two processors")
@pytest.mark.parametrize("nodes", [1, 2])
def test_through_a_short_limit_scancel_lost_machines_and_a_drained_one_no_cell_is_lost(
    case, nodes, tmp_path
):
    path = f"{os.environ['PATH']}:/usr/sbin"
    with cluster(nodes=nodes, cpus=2 // nodes, **command.environment(PATH=path)) as slurm:
        there = Studied(slurm, case.path, case.data, tmp_path / "out")
        last = slurm.nodes[-1]
        # The signal that is due 120 s before the limit is due at once; Slurm looks every 30 s.
        job = there.job("--time", "2")
        first, second = there.cells[:2]
        slurm.until(job, lambda: there.restarts(first) and there.restarts(second))
        for number in slurm.call("squeue", "--array", "--noheader", "--format=%i").split():
            slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=60")

        one = there.catch(*slurm.nodes)
        slurm.call("scancel", there.jobs[one])
        slurm.until(there.jobs[one], lambda: there.states()[there.cells.index(one)] == "stopped")
        former = there.jobs[one]
        there.job()
        assert there.jobs[one] != former

        # What the daemon has started goes on, and is put back into the queue all the same.
        one = there.catch(last)
        before = there.restarts(one)
        slurm.lose_daemon(last)
        slurm.until(there.jobs[one], lambda: there.restarts(one) > before)
        slurm.start_node(last)

        one = there.catch(last, training=True)
        slurm.lose_node(last)
        slurm.until(there.jobs[one], lambda: there.waits(one))
        slurm.start_node(last)

        one = there.catch(last)
        slurm.call("scontrol", "update", f"NodeName={last}", "State=DRAIN", "Reason=test")
        there.wait(one)
        slurm.until(there.jobs[one], lambda: "drained" in slurm.call(
            "sinfo", "--noheader", f"--nodes={last}", "--format=%T"))
        assert not there.on(last)
        slurm.call("scontrol", "update", f"NodeName={last}", "State=RESUME")

        there.wait(*there.cells, seconds=1800)
        assert there.states() == ["done"] * len(there.cells)
        there.assert_bits(case.alone, *there.cells)

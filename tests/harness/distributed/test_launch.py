"""The command line that paddle's launcher gets, and jobs of a single worker."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from eval.features import torch_process
from harness import runs
from harness.base.errors import EnvironmentFault, HarnessError, Interrupted
from harness.base.paddle_env import default_threads
from harness.distributed import launch
from harness.distributed.launch import Job
from tests import command
from tests.command import harness
from tests.fixtures import write_tiny_config

ETCD = Job(("train", "small"), nproc=8, nnodes=2, master="etcd://127.0.0.1:2379", name="small-s1")


def options(job):
    found = launch.command(job, Path("logs"))
    assert found[:3] == [sys.executable, "-m", "harness.distributed.paddle_launcher"]
    script = found.index(str(Path(launch.__file__).parents[1] / "__main__.py"))
    assert tuple(found[script + 1 :]) == job.arguments
    return dict(zip(found[3:script:2], found[4:script:2], strict=True))


def test_one_machine():
    assert options(Job(("train", "small"), nproc=8, devices="0,2")) == {
        "--nproc_per_node": "8", "--log_dir": "logs", "--job_id": "harness", "--devices": "0,2",
    }


def test_two_machines():
    found = options(Job(("train",), nproc=8, nnodes=2, master="127.0.0.1:8090", max_restarts=3))
    assert found["--nnodes"] == "2" and found["--master"] == "127.0.0.1:8090"
    # Starting again is ours: paddle's restart does nothing without etcd.
    assert not {"--max_restart", "--elastic_level", "--backend"} & found.keys()


def test_with_etcd_starting_again_is_handed_over_to_paddle():
    found = options(dataclasses.replace(ETCD, max_restarts=3))
    assert found["--master"] == "etcd://127.0.0.1:2379" and found["--job_id"] == "small-s1"
    assert (found["--max_restart"], found["--elastic_level"]) == ("3", "1")
    assert (options(ETCD)["--max_restart"], options(ETCD)["--elastic_level"]) == ("0", "-1")


def test_paddle_takes_these_options(monkeypatch):
    from paddle.distributed.launch.context.args_envs import parse_args

    monkeypatch.setattr(sys, "argv", launch.command(
        dataclasses.replace(ETCD, max_restarts=3), Path("logs"))[2:])
    known, unknown = parse_args()
    assert (known.max_restart, known.elastic_level, known.nnodes) == (3, 1, "2")
    assert known.host == "127.0.0.1" and known.job_id == "small-s1" and not unknown
    assert known.training_script_args == ["train", "small"]


@pytest.mark.parametrize(("restarts", "started"), [(3, 1), (0, 1)])
def test_with_etcd_the_job_is_started_once_here(monkeypatch, restarts, started):
    died = launch.RankDied("worker 0 ended without a word")
    calls = []
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name == "etcd3")
    monkeypatch.setattr(launch, "_run_once", lambda job, folder: calls.append(job) or died)
    with pytest.raises(launch.RankDied):
        launch.run(dataclasses.replace(ETCD, max_restarts=restarts))
    assert len(calls) == started
    calls.clear()
    with pytest.raises(launch.RankDied):
        launch.run(dataclasses.replace(ETCD, master="127.0.0.1:1", max_restarts=restarts))
    assert len(calls) == restarts + 1


def test_etcd_without_its_client_is_said(monkeypatch):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="Python package etcd3"):
        launch.run(ETCD)


def told(code, rank, kind="own"):
    return {"rank": rank, "worker": rank, "code": code, "message": f"error {code}", "kind": kind}


@pytest.mark.parametrize(("reports", "silent", "code", "kind"), [
    # One rank's bad data, while the launcher killed the other: not to be tried again.
    ([told(4, 1)], "worker 0 here ended without a word", 4, HarnessError),
    ([told(4, 1), told(4, 0, "heard")], "", 4, HarnessError),
    ([told(4, 0, "heard")], "", 4, HarnessError),  # it was on another machine
    ([told(1, 1)], "worker 0 here ended without a word", 5, launch.RankDied),
    ([told(5, 1, "lost")], "worker 0 here ended without a word", 5, launch.RankDied),
    ([told(5, 0, "lost")], "", 5, launch.RankDied),  # it was on another machine
    ([told(75, 0), told(75, 1)], "", 75, Interrupted),
    ([told(1, 0), told(75, 1)], "", 1, HarnessError),
])
def test_what_the_ranks_errors_amount_to(tmp_path, reports, silent, code, kind):
    error = launch._failure(247, reports, silent, tmp_path / "launcher")
    assert type(error) is kind and error.exit_code == code


def test_devices_need_paddles_gpu_build(monkeypatch):
    monkeypatch.setattr(launch, "has_gpu_build", lambda: False)
    with pytest.raises(EnvironmentFault, match="--devices 0,2 names GPUs"):
        launch.run(Job((), nproc=2, devices="0,2"))


def test_a_launcher_that_started_nobody_is_quoted(tmp_path):
    (tmp_path / "launcher").write_text("starting\nno port is free\n\n")
    error = launch._failure(1, [], "", tmp_path / "launcher")
    assert error.exit_code == 5 and "no port is free" in error.message


@pytest.mark.parametrize("options", [("--nproc", 1), ("--max-restarts", 1)])
def test_a_single_worker_is_a_job_too(features, tmp_path, options):
    """Once a worker of one took itself for the launcher, and started another, and so on."""
    config = write_tiny_config(tmp_path / "tiny.toml")
    process = harness(
        "train", config, "--data", features, "--output-dir", tmp_path / "run", *options,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [str(tmp_path / "run")]


def test_the_thread_count_does_not_follow_from_the_workers_where_bits_must_not(
    monkeypatch, tmp_path
):
    """Without OMP_NUM_THREADS in the environment, as users call it."""
    seen = []

    class Process:
        pid = 0

        def __init__(self, command, env, **_):
            seen.append(env)

        def wait(self):
            return 0

        poll = wait

    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(launch.subprocess, "Popen", Process)
    monkeypatch.setattr(launch, "default_threads", lambda: 8)
    for number, threads in enumerate((None, 8, 2)):
        (tmp_path / str(number)).mkdir()
        assert launch._run_once(Job((), nproc=4, threads=threads), tmp_path / str(number)) == ""
    assert [one["OMP_NUM_THREADS"] for one in seen] == ["2", "8", "2"]
    assert [one.get("OMP_WAIT_POLICY") for one in seen] == [None, "PASSIVE", None]


@pytest.mark.parametrize("reduction", ["fast", "fixed-order"])
def test_workers_have_the_threads_of_one_process_where_the_order_is_fixed(
    features, tmp_path, reduction
):
    config = write_tiny_config(tmp_path / "tiny.toml")
    untold = command.environment()
    del untold["OMP_NUM_THREADS"]
    used = []
    for workers in (1, 2):
        run = tmp_path / str(workers)
        subprocess.run(
            [sys.executable, "-m", "harness", "train", config, "--data", features, "--output-dir",
             run, "--set", f"train.reduction={reduction}", "--set", "train.micro_batch_size=1",
             "--nproc", str(workers)],
            env=untold, check=True, capture_output=True,
        )
        used.append(runs.load(run).info["fingerprint"]["env.OMP_NUM_THREADS"])
    cores = default_threads()
    assert used == [str(cores), str(cores if reduction == "fixed-order" else max(1, cores // 2))]


def test_each_worker_s_features_are_made_on_its_own_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    assert torch_process._own_gpu() == {}
    monkeypatch.setenv("FLAGS_selected_gpus", "1")
    assert torch_process._own_gpu() == {"CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert torch_process._own_gpu() == {"CUDA_VISIBLE_DEVICES": "6"}


ENDS_WELL = """
import os, pathlib, signal, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
status = pathlib.Path("/proc", str(os.getppid()), "status")
while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> signal.SIGTERM - 1 & 1:
    time.sleep(0.01)  # until it hears
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(0.5)
pathlib.Path(os.environ["{folder}"], "result").write_text("runs/x")
"""


def test_a_job_that_ends_well_though_asked_to_stop_has_ended_well(monkeypatch):
    script = ENDS_WELL.format(folder=launch.rank_reports.FOLDER)
    monkeypatch.setattr(launch, "command", lambda job, logs: [sys.executable, "-c", script])
    assert launch.run(Job(("train", "small"))) == "runs/x"

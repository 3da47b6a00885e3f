"""Whole processes: killed at random, asked to stop, crowding on one run, out of memory."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import runs
from tests.command import assert_one_line_error, environment
from tests.faults.cases import STEPS, bits
from tests.warm import wait_for

QUICK = pytest.mark.parametrize("case", ["tiny", "digits_tiny", "coco"], indirect=True)
TINY = pytest.mark.parametrize("case", ["tiny"], indirect=True)


@pytest.fixture(scope="module")
def undisturbed(warm, case, tmp_path_factory):
    """(directory, bits) of a run left alone."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    ended = warm.run(*case.train(directory))
    assert ended.returncode == 0, ended.stderr
    found = bits(directory)
    kinds = {Path(path).parts[0] for path in found}
    beside = set() if "tiny.toml" in case.config else {"samples", "eval"}
    assert kinds == {"metrics.jsonl", "checkpoints"} | beside
    return directory, found


@QUICK
def test_the_same_command_again_gives_the_same_bytes(warm, case, undisturbed, tmp_path):
    ended = warm.run(*case.train(tmp_path / "run"))
    assert ended.returncode == 0, ended.stderr
    assert bits(tmp_path / "run") == undisturbed[1]


def timed(warm, case, directory):
    """Seconds that a run takes at this moment: other work on the machine comes and goes."""
    shutil.rmtree(directory, ignore_errors=True)
    began = time.monotonic()
    ended = warm.run(*case.train(directory))
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - began


def kill_at_random(warm, case, expected, tmp_path, kills, workers=0):
    """One run after another, each killed a few times, until there were `kills`.

    Each start has `workers` to 3 data workers.
    """
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    seconds = timed(warm, case, tmp_path / "timed")
    killed = begun = 0
    steps_seen = set()
    while killed < kills:
        directory = tmp_path / str(begun)
        begun += 1
        for _ in range(draw.randint(1, 4)):
            child = warm.start(*case.train(directory, "--workers", draw.randint(workers, 3)))
            time.sleep(draw.uniform(0.0, seconds * 1.05))
            os.kill(child.pid, signal.SIGKILL)
            ended = warm.wait(child)
            killed += ended.returncode == -signal.SIGKILL
            if (directory / "metrics.jsonl").exists():
                steps_seen.add((directory / "metrics.jsonl").read_bytes().count(b"\n"))
        ended = warm.run(*case.train(directory))
        assert ended.returncode == 0, ended.stderr
        assert bits(directory) == expected, f"seed {seed}, run {begun}, after {killed} kills"
        shutil.rmtree(directory)
        if killed < kills:
            seconds = timed(warm, case, tmp_path / "timed")
    print(f"seed {seed}: {killed} kills in {begun} runs, at {len(steps_seen)} lengths of the log")


@TINY
def test_killed_at_random_a_run_ends_in_the_same_bits(warm, case, undisturbed, tmp_path):
    kill_at_random(warm, case, undisturbed[1], tmp_path, 5)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_100_random_kills(warm, case, undisturbed, tmp_path, capsys):
    with capsys.disabled():
        kill_at_random(warm, case, undisturbed[1], tmp_path, 100, workers=1)


@TINY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_with_75_and_the_same_command_goes_on(
    warm, case, undisturbed, tmp_path, number
):
    directory = tmp_path / "run"
    child = warm.start(*case.train(directory))
    wait_for(lambda: runs.read_lines(directory / "metrics.jsonl"))
    began = time.monotonic()
    os.kill(child.pid, number)
    ended = warm.wait(child)
    assert time.monotonic() - began < 25
    assert_one_line_error(ended, 75, "run the same command again")
    stopped = runs.load(directory)
    assert stopped.checkpoint_steps()[-1] == stopped.metrics()[-1]["step"] < STEPS
    assert warm.run(*case.train(directory)).returncode == 0
    assert bits(directory) == undisturbed[1]


@TINY
def test_a_signal_before_the_first_step_is_75_too(warm, case, tmp_path):
    child = warm.start(*case.train(tmp_path / "run"))
    os.kill(child.pid, signal.SIGTERM)
    ended = warm.wait(child)
    # The very first moments of a process belong to nobody: the signal's default ends it.
    assert ended.returncode in (75, -signal.SIGTERM)
    assert "Traceback" not in ended.stderr


def test_paddle_does_not_keep_sigterm():
    """Its own handler prints a C++ stack, from malloc if need be, where it then waits for ever."""
    code = """if True:
        import os, signal, sys
        from harness.base import paddle_env
        signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
        paddle_env.require_paddle()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGTERM, "asked\n", "")


def test_of_eight_processes_one_works_and_seven_name_it(
    warm, case, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    children = [warm.start(*case.train(directory)) for _ in range(8)]
    ended = {child.pid: warm.wait(child) for child in children}
    worked = [pid for pid, end in ended.items() if end.returncode == 0]
    refused = [end for end in ended.values() if end.returncode == 5]
    # One that came last may find the run finished and leave it as it is: that is no harm.
    assert worked and len(worked) + len(refused) == 8
    assert bits(directory) == undisturbed[1]
    for end in refused:
        assert_one_line_error(end, 5, "is being worked on by process")
        assert any(f"process {pid} on" in end.stderr for pid in worked)


@TINY
def test_a_lock_left_by_a_killed_process_is_harmless(warm, case, tmp_path):
    directory = tmp_path / "run"
    child = warm.start(*case.train(directory))
    wait_for(lambda: (directory / "lock").exists() and (directory / "lock").read_bytes())
    os.kill(child.pid, signal.SIGKILL)
    warm.wait(child)
    assert f"process {child.pid} on" in (directory / "lock").read_text()
    assert warm.run(*case.train(directory)).returncode == 0


@TINY
def test_out_of_memory_is_one_line_that_says_what_to_lower(warm, case, tmp_path):
    ended = warm.run(
        *case.train(tmp_path / "run"), "--set", "model.mlp_ratio=64.0",
        "--set", "model.attention_head_dim=512", more_memory=150 << 20)
    assert_one_line_error(ended, 5, "out of memory", "train.micro_batch_size")


def test_foreign_files_torn_lines_and_a_jumping_clock_do_no_harm(
    warm, case, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    child = warm.start(*case.train(directory))
    wait_for(lambda: (directory / "checkpoints" / "00000003").is_dir(), seconds=300)
    os.kill(child.pid, signal.SIGKILL)
    warm.wait(child)
    saved = directory / "checkpoints"
    foreign = [saved / "notes.txt", saved / "00000004", saved / "lost+found" / "x", saved / "7.tmp"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not a checkpoint")
    for name in ("metrics.jsonl", "timing.jsonl"):
        with open(directory / name, "a") as file:
            file.write('{"step": 99, "lo')
    for path in directory.rglob("*"):
        os.utime(path, (4e9, 4e9))  # saved in the year 2096
    assert warm.run(*case.train(directory)).returncode == 0
    assert all(path.exists() for path in foreign)
    for path in foreign:
        path.unlink()
    assert bits(directory) == undisturbed[1]


@QUICK
def test_a_broken_newest_checkpoint_is_passed_over_with_a_warning(
    warm, case, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    shutil.copytree(undisturbed[0], directory)
    path = directory / "checkpoints" / f"{STEPS:08d}" / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    ended = warm.run(*case.train(directory))
    assert ended.returncode == 0
    assert f"step {STEPS} is passed over" in ended.stderr and "ema.safetensors" in ended.stderr
    assert bits(directory) == undisturbed[1]


@pytest.mark.parametrize("change", [
    ("train.recompute=true",), ("data.num_workers=0",),
    ("train.save_steps=5", "train.keep_checkpoints=1"), ("train.log_steps=4",),
], ids=["recompute", "workers", "checkpoint interval", "log interval"])
def test_what_may_vary_leaves_the_bits(warm, case, undisturbed, tmp_path, change):
    directory = tmp_path / "run"
    overrides = [text for one in change for text in ("--set", one)]
    assert warm.run(*case.train(directory, *overrides)).returncode == 0
    last = f"checkpoints/{STEPS:08d}"
    expected = undisturbed[1]
    for part in ("model", "ema", "optimizer"):
        name = f"{last}/{part}.safetensors"
        assert (directory / name).read_bytes() == expected[name]
    there = {line["step"]: line for line in map(json.loads, expected["metrics.jsonl"].splitlines())}
    both = [line for line in runs.load(directory).metrics() if line["step"] in there]
    assert len(both) > 1 and all(line == there[line["step"]] for line in both)
    found = bits(directory)
    for path in expected:
        assert path.startswith(("checkpoints", "metrics")) or found[path] == expected[path], path


@TINY
def test_a_run_without_determinism_says_so_and_promises_nothing(warm, case, tmp_path):
    directory = tmp_path / "run"
    off = ("--set", "train.determinism=off")
    assert warm.run(*case.train(directory, *off)).returncode == 0
    assert runs.load(directory).info["deterministic"] is False
    ended = warm.run("verify", directory, "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["bits_promised"] is False

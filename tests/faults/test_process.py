"""Whole processes: killed at random, asked to stop, crowding on one run, out of memory."""

import functools
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
from tests.faults.warm import wait_for

STEPS = 12
LONG = ("--set", f"train.max_steps={STEPS}", "--set", "train.keep_checkpoints=9")


def train(tiny, features, directory, *more):
    return ("train", tiny, "--data", features, "--output-dir", directory, *LONG, *more)


def train_digits(digits, directory, *more):
    """digits_tiny, cut short: 24 steps, a checkpoint at 8, 16 and 24, sample grids at 12 and 24."""
    short = ("train.max_steps=24", "train.save_steps=8", "train.log_steps=3",
             "train.image_steps=12", "train.keep_checkpoints=9", "train.eval_steps=0",
             "train.eval_at_start=false")
    sets = [word for value in short for word in ("--set", value)]
    return ("train", "digits_tiny", "--data", digits, "--output-dir", directory, *sets, *more)


def bits(directory):
    """Everything of a run that must come out the same, by relative path."""
    found = {p.relative_to(directory): p.read_bytes() for part in ("checkpoints", "samples")
             for p in sorted((directory / part).rglob("*")) if p.is_file()}
    assert not [path for path in found if path.name.startswith(".")]
    return {"metrics.jsonl": (directory / "metrics.jsonl").read_bytes(), **found}


@pytest.fixture(scope="module")
def undisturbed(warm, tiny, features, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    return left_alone(warm, functools.partial(train, tiny, features), directory)


def left_alone(warm, command, directory):
    """(bits, seconds) of the run that `command(directory)` makes."""
    warm.run(*command(directory))  # page cache and clocks are warm after one
    shutil.rmtree(directory)
    began = time.monotonic()
    ended = warm.run(*command(directory))
    assert ended.returncode == 0, ended.stderr
    return bits(directory), time.monotonic() - began


def kill_at_random(warm, command, undisturbed, tmp_path, kills, seed, workers=0):
    """One run after another, each killed a few times, until there were `kills`.

    Each start has `workers` to 3 data workers.
    """
    expected, seconds = undisturbed
    draw = random.Random(seed)
    killed = begun = 0
    steps_seen = set()
    while killed < kills:
        directory = tmp_path / str(begun)
        begun += 1
        for _ in range(draw.randint(1, 4)):
            child = warm.start(*command(directory, "--workers", draw.randint(workers, 3)))
            time.sleep(draw.uniform(0.0, seconds * 1.05))
            os.kill(child.pid, signal.SIGKILL)
            ended = warm.wait(child)
            killed += ended.returncode == -signal.SIGKILL
            if (directory / "metrics.jsonl").exists():
                steps_seen.add((directory / "metrics.jsonl").read_bytes().count(b"\n"))
        ended = warm.run(*command(directory))
        assert ended.returncode == 0, ended.stderr
        shutil.rmtree(tmp_path / "timed", ignore_errors=True)
        began = time.monotonic()  # other work on the machine comes and goes
        warm.run(*command(tmp_path / "timed"))
        seconds = time.monotonic() - began
        assert bits(directory) == expected, f"seed {seed}, run {begun}, after {killed} kills"
        shutil.rmtree(directory)
    print(f"seed {seed}: {killed} kills in {begun} runs, at {len(steps_seen)} lengths of the log")


def test_killed_at_random_a_run_ends_in_the_same_bits(
    warm, tiny, features, undisturbed, tmp_path
):
    command = functools.partial(train, tiny, features)
    kill_at_random(warm, command, undisturbed, tmp_path, 5, seed=random.randrange(10**6))


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_100_random_kills(warm, digits, tmp_path, capsys):
    command = functools.partial(train_digits, digits)
    alone = left_alone(warm, command, tmp_path / "alone")
    assert len([path for path in alone[0] if Path(path).suffix == ".png"]) == 2
    with capsys.disabled():
        seed = random.randrange(10**6)
        kill_at_random(warm, command, alone, tmp_path, 100, seed, workers=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_with_75_and_the_same_command_goes_on(
    warm, tiny, features, undisturbed, tmp_path, number
):
    directory = tmp_path / "run"
    child = warm.start(*train(tiny, features, directory))
    wait_for(lambda: runs.read_lines(directory / "metrics.jsonl"))
    began = time.monotonic()
    os.kill(child.pid, number)
    ended = warm.wait(child)
    assert time.monotonic() - began < 25
    assert_one_line_error(ended, 75, "run the same command again")
    stopped = runs.load(directory)
    assert stopped.checkpoint_steps()[-1] == stopped.metrics()[-1]["step"] < STEPS
    assert warm.run(*train(tiny, features, directory)).returncode == 0
    assert bits(directory) == undisturbed[0]


def test_a_signal_before_the_first_step_is_75_too(warm, tiny, features, tmp_path):
    child = warm.start(*train(tiny, features, tmp_path / "run"))
    os.kill(child.pid, signal.SIGTERM)
    ended = warm.wait(child)
    # The very first moments of a process belong to nobody: the signal's default ends it.
    assert ended.returncode in (75, -signal.SIGTERM)
    assert "Traceback" not in ended.stderr


def test_paddle_does_not_keep_sigterm():
    """Its own handler prints a C++ stack, from malloc if need be, where it then waits for ever."""
    code = """if True:
        import os, signal, sys
        from harness.base import environment
        signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
        environment.require_paddle()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGTERM, "asked\n", "")


def test_of_eight_processes_one_works_and_seven_name_it(
    warm, tiny, features, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    children = [warm.start(*train(tiny, features, directory)) for _ in range(8)]
    ended = {child.pid: warm.wait(child) for child in children}
    worked = [pid for pid, end in ended.items() if end.returncode == 0]
    refused = [end for end in ended.values() if end.returncode == 5]
    # One that came last may find the run finished and leave it as it is: that is no harm.
    assert worked and len(worked) + len(refused) == 8
    assert bits(directory) == undisturbed[0]
    for end in refused:
        assert_one_line_error(end, 5, "is being worked on by process")
        assert any(f"process {pid} on" in end.stderr for pid in worked)


def test_a_lock_left_by_a_killed_process_is_harmless(warm, tiny, features, tmp_path):
    directory = tmp_path / "run"
    child = warm.start(*train(tiny, features, directory))
    wait_for(lambda: (directory / "lock").exists() and (directory / "lock").read_bytes())
    os.kill(child.pid, signal.SIGKILL)
    warm.wait(child)
    assert f"process {child.pid} on" in (directory / "lock").read_text()
    assert warm.run(*train(tiny, features, directory)).returncode == 0


def test_out_of_memory_is_one_line_that_says_what_to_lower(warm, tiny, features, tmp_path):
    ended = warm.run(
        *train(tiny, features, tmp_path / "run"), "--set", "model.mlp_ratio=64.0",
        "--set", "model.attention_head_dim=512", more_memory=150 << 20)
    assert_one_line_error(ended, 5, "out of memory", "train.micro_batch_size")


def test_foreign_files_torn_lines_and_a_jumping_clock_do_no_harm(
    warm, tiny, features, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    child = warm.start(*train(tiny, features, directory))
    wait_for(lambda: (directory / "checkpoints" / "00000003").is_dir())
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
    assert warm.run(*train(tiny, features, directory)).returncode == 0
    assert all(path.exists() for path in foreign)
    for path in foreign:
        path.unlink()
    assert bits(directory) == undisturbed[0]


def test_a_broken_newest_checkpoint_is_passed_over_with_a_warning(
    warm, tiny, features, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    assert warm.run(*train(tiny, features, directory)).returncode == 0
    path = directory / "checkpoints" / f"{STEPS:08d}" / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    ended = warm.run(*train(tiny, features, directory))
    assert ended.returncode == 0
    assert f"step {STEPS} is passed over" in ended.stderr and "ema.safetensors" in ended.stderr
    assert bits(directory) == undisturbed[0]


@pytest.mark.parametrize("change", [
    ("train.recompute=true",), ("data.num_workers=0",),
    ("train.save_steps=5", "train.keep_checkpoints=1"), ("train.log_steps=4",),
], ids=["recompute", "workers", "checkpoint interval", "log interval"])
def test_what_may_vary_leaves_the_bits(warm, tiny, features, undisturbed, tmp_path, change):
    directory = tmp_path / "run"
    overrides = [text for one in change for text in ("--set", one)]
    assert warm.run(*train(tiny, features, directory, *overrides)).returncode == 0
    last = f"checkpoints/{STEPS:08d}"
    expected = {str(path): data for path, data in undisturbed[0].items()}
    for part in ("model", "ema", "optimizer"):
        name = f"{last}/{part}.safetensors"
        assert (directory / name).read_bytes() == expected[name]
    there = {line["step"]: line for line in map(json.loads, expected["metrics.jsonl"].splitlines())}
    assert all(line == there[line["step"]] for line in runs.load(directory).metrics())


def test_a_run_without_determinism_says_so_and_promises_nothing(warm, tiny, features, tmp_path):
    directory = tmp_path / "run"
    off = ("--set", "train.determinism=off")
    assert warm.run(*train(tiny, features, directory, *off)).returncode == 0
    assert runs.load(directory).info["deterministic"] is False
    ended = warm.run("verify", directory, "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["bits_promised"] is False

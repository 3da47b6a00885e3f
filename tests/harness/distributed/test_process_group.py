"""Several processes on one run, over gloo: the same bits, and nobody left behind."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import runs
from harness.base.errors import UsageError
from harness.distributed import process_group
from harness.distributed.gradient_sum import Fold, fold
from harness.distributed.process_group import World, micro_batches
from harness.runs import checkpoints
from tests import command, file_schemas
from tests.command import assert_one_line_error, harness
from tests.faults.striking import struck
from tests.fixtures import write_tiny_config

FIXED = (
    "--set", "train.reduction=fixed-order", "--set", "train.micro_batch_size=1",
    "--set", "train.max_steps=30", "--set", "train.save_steps=30",
)
FAST = (
    "--set", "train.micro_batch_size=2", "--set", "train.max_steps=30",
    "--set", "train.save_steps=30",
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def train(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    config = write_tiny_config(folder / "tiny.toml")

    def run(name, *options, code=0):
        process = harness(
            "train", config, "--data", features, "--output-dir", folder / name, *options
        )
        assert process.returncode == code, process.stderr
        assert "FLAGS" not in process.stderr  # paddle's banner
        return folder / name

    run.arguments = lambda name, *options: (
        "train", config, "--data", features, "--output-dir", folder / name, *options
    )
    run.folder = folder
    return run


@pytest.fixture(scope="module")
def alone(train):
    return train("alone", *FIXED)


def same_bits(a, b, step=30):
    for name in ("model", "ema", "optimizer"):
        path = f"checkpoints/{step:08d}/{name}.safetensors"
        assert (a / path).read_bytes() == (b / path).read_bytes(), name
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("workers", [2, 4])
def test_fixed_order_gives_the_same_bits_on_any_number_of_workers(train, alone, workers):
    same_bits(alone, train(f"fixed-{workers}", *FIXED, "--nproc", workers))


def test_two_launchers_stand_for_two_machines(train, alone):
    options = (*FIXED, "--nnodes", 2, "--nproc", 1, "--master", f"127.0.0.1:{free_port()}")
    other = command.start(*train.arguments("nodes", *options))
    directory = train("nodes", *options)
    assert other.wait(120) == 0, other.communicate()
    same_bits(alone, directory)


def test_stopped_on_four_workers_and_continued_on_two(train, alone):
    stopped = train("moved", *FIXED, "--nproc", 4, "--until", 13)
    assert runs.load(stopped).checkpoint_steps() == [13]
    same_bits(alone, train("moved", *FIXED, "--nproc", 2))


def test_a_sharded_optimizer_writes_the_same_checkpoint_for_any_world(train, alone):
    sharded = (*FIXED, "--set", "train.shard_optimizer=true")
    directory = train("sharded", *sharded, "--nproc", 4, "--until", 10)
    same_bits(alone, train("sharded", *sharded))  # written on four, continued on one
    train("unsharding", *sharded, "--until", 10)
    same_bits(directory, train("unsharding", *sharded, "--nproc", 4))


def test_fast_repeats_itself_and_is_near_to_fixed_order(train, alone):
    first = train("fast-1", *FAST, "--nproc", 2)
    same_bits(first, train("fast-2", *FAST, "--nproc", 2))
    fixed = checkpoints.load(alone / "checkpoints" / "00000030", parts=("model",)).parts["model"]
    fast = checkpoints.load(first / "checkpoints" / "00000030", parts=("model",)).parts["model"]
    change = sum(float(np.square(fast[n] - fixed[n]).sum()) for n in fixed)
    size = sum(float(np.square(fixed[n]).sum()) for n in fixed)
    assert (change / size) ** 0.5 < 1e-5
    losses = [[line["loss"] for line in runs.load(d).metrics()] for d in (alone, first)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_each_ranks_figures_are_told(train, alone):
    directory = train("figures", *FIXED, "--nproc", 2)
    last = runs.load(directory).timing()[-1]
    speed, steps = last["images_per_second"], last["rank_step_ms"]
    assert last["devices"] == 2 and last["images_per_second_per_device"] == speed / 2
    assert len(steps) == 2 and 0 < min(steps) and steps[last["slowest_rank"]] == max(steps)
    assert 0 < last["communication_share"] < 1
    file_schemas.check_all(directory)
    last = runs.load(alone).timing()[-1]
    assert last["devices"] == 1
    assert last["images_per_second_per_device"] == last["images_per_second"]
    assert "rank_step_ms" not in last


def workers_of(process):
    """The training processes under a started `harness train --nproc`."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [c for c in children if "PADDLE_TRAINER_ID" in _environ(c)]


def _environ(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)  # less than a step
    raise AssertionError("it never came")


def lines_in(directory):
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def gone(processes, seconds=60):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


def kill_a_rank(train, alone, name, rank, after):
    directory = train.folder / name
    options = (*FIXED, "--set", "train.save_steps=5", "--nproc", 2)
    process = command.start(*train.arguments(name, *options))
    workers = wait_for(lambda: len(w := workers_of(process)) == 2 and w, process)
    chosen = [w for w in workers if _environ(w).get("PADDLE_TRAINER_ID") == str(rank)]
    wait_for(lambda: lines_in(directory) >= after, process)
    chosen[0].kill()
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have finished before the kill took effect
        assert process.returncode == 5, errors
        assert "ended without a word" in errors, errors
    assert gone(workers), "a worker outlived its job"
    again = train(name, *options)
    same_weights(alone, again)


def same_weights(a, b):
    for name in ("model", "ema", "optimizer"):
        path = f"checkpoints/00000030/{name}.safetensors"
        assert (a / path).read_bytes() == (b / path).read_bytes(), name


@pytest.mark.parametrize(
    "times", [2, pytest.param(20, marks=[pytest.mark.faults, pytest.mark.timeout(3600)])]
)
def test_ranks_killed_at_random_steps(train, alone, times):
    seed = int(os.environ.get("HARNESS_FAULT_SEED", random.SystemRandom().randrange(2**32)))
    print("seed", seed)
    choose = random.Random(seed)
    for number in range(times):
        rank, after = choose.randrange(2), choose.randrange(1, 28)
        kill_a_rank(train, alone, f"killed-{times}-{number}", rank=rank, after=after)


def test_max_restarts_starts_the_job_again(train, alone):
    directory = train.folder / "restarted"
    options = (*FIXED, "--set", "train.save_steps=5", "--nproc", 2, "--max-restarts", 1)
    process = command.start(*train.arguments("restarted", *options))
    workers = wait_for(lambda: len(w := workers_of(process)) == 2 and w, process)
    wait_for(lambda: lines_in(directory) >= 7, process)
    workers[0].kill()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    same_weights(alone, directory)


def to_held(process, number):
    """The worker that tests/faults/strike/ holds."""
    os.kill(int(Path(process.environ()["STRIKE"], "reached").read_text()), number)


@pytest.mark.slow  # gloo waits for 30 s
@pytest.mark.parametrize(
    ("name", "moment", "sets", "said"),
    [("gathering", "paddle.distributed:all_gather:14", FIXED, "for 30 s in step "),
     # Called by paddle's backward pass, gloo ends the process at once.
     ("reducing", "paddle:Tensor.backward:7", FAST, "for 30 s; ")],
)
def test_a_stopped_rank_is_one_that_gives_no_answer(train, tmp_path, name, moment, sets, said):
    options = (*sets, "--set", "train.save_steps=5", "--nproc", 4)
    undisturbed = train(f"undisturbed-{name}", *options)
    ended = struck(("harness", *train.arguments(name, *options)), moment, signal.SIGSTOP, to_held,
                   cwd=tmp_path)
    assert_one_line_error(
        ended, 5, f"no answer from another worker {said}", "here ended without a word",
        "run the same command again to continue from the last checkpoint")
    last = ended.stderr.splitlines()[-1]
    assert "gloo" not in last and len(last) < 400, last
    directory = train(name, *options)
    for step in (20, 25, 30):
        same_bits(undisturbed, directory, step)


def test_killing_the_launcher_leaves_no_worker_behind(train):
    options = (*FIXED, "--set", "train.max_steps=5000", "--nproc", 2)
    process = command.start(*train.arguments("orphans", *options))
    workers = wait_for(lambda: len(w := workers_of(process)) == 2 and w, process)
    wait_for(lambda: lines_in(train.folder / "orphans") >= 1, process)
    process.kill()
    process.wait()
    assert gone(workers)


def test_a_signal_saves_on_all_ranks_and_exits_75(train):
    directory = train.folder / "signalled"
    options = (*FIXED, "--set", "train.max_steps=5000", "--nproc", 2)
    process = command.start(*train.arguments("signalled", *options))
    wait_for(lambda: lines_in(directory) >= 3, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert errors.count("run the same command again") == 1, errors
    steps = runs.load(directory).checkpoint_steps()
    assert steps and checkpoints.check(directory / "checkpoints" / f"{steps[-1]:08d}")


def test_an_error_of_every_rank_is_told_once_with_the_ranks_names(train, tmp_path):
    process = harness(*train.arguments("bad", *FIXED, "--nproc", 2, "--data", tmp_path))
    assert_one_line_error(process, 5, "rank 0, 1:", "training data")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--nproc", 3), "possible: 1, 2, 4, 8"),
        ((*FIXED, "--nproc", 16), "cannot be divided among 16"),
        ((*FIXED, "--set", "train.shards=2", "--nproc", 4), "more than train.shards = 2"),
        ((*FIXED, "--set", "train.shards=4", "--set", "train.global_batch_size=12",
          "--nproc", 3), "power of two"),
        (("--nnodes", 2), "--master HOST:PORT"),
    ],
)
def test_an_impossible_division_is_refused_before_anything_starts(train, options, said):
    assert_one_line_error(harness(*train.arguments("never", *options)), 2, said)


@given(st.integers(0, 6), st.data())
def test_a_fold_is_the_same_whoever_adds_which_part(height, drawn):
    values = drawn.draw(st.lists(
        st.floats(-1e6, 1e6), min_size=2**height, max_size=2**height))
    whole = fold(values)
    for parts in (2**k for k in range(height + 1)):
        size = len(values) // parts
        partial = [fold(values[at : at + size]) for at in range(0, len(values), size)]
        assert fold(partial) == whole


def test_a_fold_keeps_few_partial_sums():
    tree = Fold()
    for value in range(64):
        tree.add(value)
        assert len(tree._partial) <= 7
    assert tree.total() == sum(range(64))


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([None, 8, 16]), st.sampled_from([1, 2, 64]))
def test_together_the_workers_take_every_sample_once(size, shards, micro):
    taken = []
    for rank in range(size):
        for shard, positions in micro_batches(
            global_batch_size=64, micro_batch_size=micro, shards=shards, world=World(rank, size)
        ):
            assert len(positions) <= micro
            if shards:
                assert {p // (64 // shards) for p in positions} == {shard}
            taken += positions
    assert taken == list(range(64))


def test_owners_share_the_load():
    sizes = {"a": 100, "b": 60, "c": 50, "d": 10}
    owners = World(0, 2).owners(sizes)
    load = [sum(sizes[n] for n in sizes if owners[n] == rank) for rank in (0, 1)]
    assert load == [110, 110]


def test_shares_that_cannot_be_are_refused_with_those_that_can():
    with pytest.raises(UsageError, match="possible: 1, 2, 3, 6"):
        process_group.local_share(6, 1, World(0, 4))
    with pytest.raises(UsageError, match="possible: 1, 2, 3, 6"):
        process_group.local_share(12, 4, World(0, 2))


CONNECTIONS = """
import psutil, socket
from harness.distributed import process_group
with process_group.joined() as world:
    here = [one for one in psutil.Process().net_connections("tcp") if one.raddr]
    sockets = [socket.socket(fileno=one.fd) for one in here]
    print(*[one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets])
    world.meet()
    [one.detach() for one in sockets]
"""


def test_what_is_asked_of_the_store_is_sent_at_once(tmp_path):
    """Else every request takes the 40 ms after which a receiver acknowledges its first piece."""
    address, *ends = (f"127.0.0.1:{free_port()}" for _ in range(3))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECTIONS], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
            env=command.environment(
                PADDLE_TRAINER_ID=str(rank), PADDLE_TRAINERS_NUM="2", PADDLE_MASTER=address,
                PADDLE_TRAINER_ENDPOINTS=",".join(ends), PADDLE_CURRENT_ENDPOINT=ends[rank],
            ),
        ) for rank in range(2)
    ]
    for worker in workers:
        said, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0 and len(said.split()) >= 2 and set(said.split()) == {"1"}


def test_numpy_waits_for_require_paddle():
    """Its threads take signals that are held for paddle's import, if they began before."""
    code = (
        "import sys, harness.distributed.launch, harness.distributed.process_group\n"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=command.environment()).returncode == 0

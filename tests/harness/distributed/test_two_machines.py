"""Two launchers as two machines: at addresses of their own where namespaces can be made."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests import command
from tests.command import harness
from tests.fixtures import write_tiny_config

FIXED = (
    "--set", "train.reduction=fixed-order", "--set", "train.micro_batch_size=1",
    "--set", "train.save_steps=5",
)


@pytest.fixture(scope="module")
def arguments(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    config = write_tiny_config(folder / "tiny.toml")
    return lambda name, *options: (
        "train", config, "--data", features, "--output-dir", folder / name, *FIXED, *options
    )


def weights(directory):
    path = directory / "checkpoints" / "00000006"
    return [(path / f"{name}.safetensors").read_bytes() for name in ("model", "ema", "optimizer")]


@pytest.fixture
def machines():
    """Two network namespaces with a cable between them: (process that holds it, address) each."""
    tools = [shutil.which(name) for name in ("unshare", "nsenter", "ip")]
    if os.geteuid() or not all(tools):
        pytest.skip("making network namespaces needs root, unshare, nsenter and ip")
    holders = [subprocess.Popen(["unshare", "--net", "sleep", "600"]) for _ in range(2)]
    try:
        a, b = (str(holder.pid) for holder in holders)
        own = os.readlink("/proc/self/ns/net")
        while any(os.readlink(f"/proc/{pid}/ns/net") == own for pid in (a, b)):
            assert all(holder.poll() is None for holder in holders), "unshare --net was refused"
            time.sleep(0.01)
        cable = ["ip", "link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable"]
        made = subprocess.run([*cable, "netns", b], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no virtual cable can be made here: {made.stderr.strip()}")
        found = []
        for number, pid in enumerate((a, b), 1):
            inside = ["nsenter", "-t", pid, "-n", "ip"]
            address = f"10.77.0.{number}"
            subprocess.run([*inside, "address", "add", f"{address}/24", "dev", "cable"], check=True)
            for link in ("cable", "lo"):
                subprocess.run([*inside, "link", "set", link, "up"], check=True)
            found.append((pid, address))
        yield found
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def start_on(machine, *arguments):
    return subprocess.Popen(
        ["nsenter", "-t", machine[0], "-n", sys.executable, "-m", "harness", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command.environment(),
    )


@pytest.mark.parametrize("listed", [False, True])
def test_machines_with_addresses_of_their_own_make_the_same_bits(arguments, machines, listed):
    process = harness(*arguments("alone"), "--overwrite")
    assert process.returncode == 0, process.stderr
    first, second = (address for _, address in machines)
    options = ("--nnodes", 2, "--nproc", 1, "--master", f"{first}:8090")
    options += ("--ips", f"{first},{second}") if listed else ()
    asked = arguments(f"two-{listed}", *options)
    processes = [start_on(machine, *asked) for machine in machines]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    directory = asked[5]
    assert weights(directory) == weights(directory.parent / "alone")


def workers_of(process):
    found = psutil.Process(process.pid).children(recursive=True)
    return [w for w in found if "PADDLE_TRAINER_ID" in w.environ()]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_worker_lost_on_one_machine_ends_the_job_on_the_other(arguments, rank):
    """Whoever waits for the dead one polls a store that may well be alive."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    asked = arguments(
        f"lost-{rank}", "--set", "train.max_steps=100000", "--nnodes", 2, "--nproc", 1,
        "--master", f"127.0.0.1:{port}",
    )
    processes = [command.start(*asked) for _ in range(2)]
    try:
        log = asked[5] / "metrics.jsonl"
        end = time.monotonic() + 200
        while not (log.exists() and log.read_bytes().count(b"\n") > 5):
            assert time.monotonic() < end and all(p.poll() is None for p in processes)
            time.sleep(0.1)
        workers = [worker for p in processes for worker in workers_of(p)]
        (chosen,) = (w for w in workers if w.environ()["PADDLE_TRAINER_ID"] == rank)
        chosen.send_signal(signal.SIGKILL)
        told = [process.communicate(timeout=60)[1] for process in processes]
        assert [process.returncode for process in processes] == [5, 5], told
        assert not any("Traceback" in text for text in told), told
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
    finally:
        for process in processes:
            process.kill()
            process.communicate()

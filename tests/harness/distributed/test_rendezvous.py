"""Addresses for paddle's launcher: plain ones, names, several machines', and what leads nowhere."""

import socket

import pytest

from harness.base.errors import EnvironmentFault, UsageError
from harness.distributed import rendezvous


def options(master, ips=None, nnodes=2):
    found = rendezvous.find(master, ips, nnodes).options()
    return dict(zip(found[::2], found[1::2], strict=True))


def test_an_address_stays_and_this_machine_s_is_the_one_on_the_way_there():
    assert options("127.0.0.1:8090") == {"--master": "127.0.0.1:8090", "--host": "127.0.0.1"}


def test_a_name_becomes_an_address():
    assert options("localhost:8090") == {"--master": "127.0.0.1:8090", "--host": "127.0.0.1"}


def test_etcd_s_host_is_an_address_because_paddle_strips_letters_of_its_name():
    found = options("etcd://localhost:2379")
    assert found["--master"] == "etcd://127.0.0.1:2379"


def test_the_interface_is_the_one_that_has_the_address():
    assert rendezvous.find("127.0.0.1:8090", None, 2).interface() == "lo"
    assert rendezvous.Place("192.0.2.7:8090", "192.0.2.7").interface() is None


def test_listed_machines_have_their_places():
    found = options("192.0.2.7:8090", "192.0.2.7,127.0.0.1")
    assert found == {"--master": "192.0.2.7:8090", "--host": "127.0.0.1", "--rank": "1"}


@pytest.mark.parametrize("master", ["10.0.0.1", "10.0.0.1:", ":8090", "10.0.0.1:x", "a:70000"])
def test_what_is_no_address_is_refused(master):
    with pytest.raises(UsageError, match="HOST:PORT"):
        options(master)


def test_machines_that_are_not_this_one_are_refused():
    with pytest.raises(UsageError, match="none of --ips"):
        options("192.0.2.7:8090", "192.0.2.7,192.0.2.8")
    with pytest.raises(UsageError, match="names 1 machines and --nnodes 2"):
        options("127.0.0.1:8090", "127.0.0.1")


def test_an_unknown_name_is_said_to_be_unknown():
    with pytest.raises(EnvironmentFault, match=r"no-such-host\.invalid is not known"):
        options("no-such-host.invalid:8090")


def test_a_name_that_means_only_this_machine_is_refused(monkeypatch):
    """Many systems give their own name the address 127.0.1.1."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with pytest.raises(EnvironmentFault, match=r"node001 is 127\.0\.1\.1 on this machine"):
        options("node001:8090")
    assert options("node001:8090", nnodes=1)["--host"].startswith("127.")


def test_a_slurm_step_of_one_task_a_machine_tells_the_first(monkeypatch):
    """Which Slurm itself answers: tests/slurm."""
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "7"}
    assert rendezvous.of_slurm_step({}) is None
    for other in ({"SLURM_STEP_NUM_NODES": "1"}, {"SLURM_STEP_NUM_TASKS": "4"}):
        assert rendezvous.of_slurm_step({**step, **other}) is None
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFault, match="give --nnodes and --master"):
        rendezvous.of_slurm_step(step)

"""What lies where a file is expected: links, pipes, devices, empty and sparse files, odd names.

Every door of tests/fuzz/ is led to each: it reads or refuses in one line, and waits for nobody.
"""

import contextlib
import multiprocessing
import os
import resource
import signal

import pytest

from tests.fuzz import door as one_door
from tests.fuzz import doors

TERABYTE = 1 << 40


def pipe(path):
    os.mkfifo(path)


def endless_device(path):
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.symlink_to(path.name)


def link_to_nothing(path):
    path.symlink_to("nothing")


def directory(path):
    path.mkdir()


def empty(path):
    path.touch()


def sparse_terabyte(path):
    with open(path, "wb") as file:
        file.truncate(TERABYTE)


PLACES = (pipe, endless_device, link_to_itself, link_to_nothing, directory, empty, sparse_terabyte)


def lead(door, path, answer):
    """Lead `door` to every place, under limits; in a process of its own."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), used + (2 << 30)))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for place in PLACES:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        place(path)
        answer.send(place.__name__)
        signal.alarm(20)
        try:
            one_door.read(door, path)
        except BaseException as error:
            answer.send(f"{place.__name__}: {error!r}")
            return
    answer.send("passed")


@pytest.mark.parametrize("name", doors.DOORS)
def test_a_door_waits_for_nobody(name, tmp_path):
    door = doors.DOORS[name]
    one_door.enter(door, tmp_path)
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=lead, args=(door, tmp_path / door.name, send))
    process.start()
    send.close()
    said = []
    with contextlib.suppress(EOFError):
        while True:
            said.append(receive.recv())
    process.join()
    assert (said[-1], process.exitcode) == ("passed", 0), said


@pytest.mark.parametrize("name", ["npy", "pth", "statistics", "image", "safetensors"])
def test_a_name_of_two_lines_is_told_in_one(name, tmp_path):
    door = doors.DOORS[name]
    path = tmp_path / "a\nb\x1b[31m\udcff"
    path.write_bytes(b"not what it should be")
    assert "a b\\x1b[31m\\udcff" in one_door.read(door, path)

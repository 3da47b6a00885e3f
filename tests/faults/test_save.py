"""Every file-system call of one save: killed there, the disk full there, an I/O error there."""

import errno
import os
import re
import shutil
import subprocess
import sys

import pytest

from harness.base.errors import EnvironmentFault
from tests.faults import inject, saving


@pytest.fixture
def folder(tmp_path):
    """Checkpoints 1 and 2, of which the next save drops the first; and a killed save's rest."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        saving.save(folder, step)
    (folder / ".00000009.77.tmp").mkdir()
    (folder / ".00000009.77.tmp" / "model.safetensors").write_bytes(b"half")
    return folder


def copy(folder, to):
    shutil.copytree(folder, to)
    return to


def calls_of_a_save(folder, tmp_path):
    here = copy(folder, tmp_path / "counted")
    with inject.injected(inject.Injector(0, inject.kill)) as injector:
        saving.save(here, 3)
    return injector.names


def assert_old_or_new(folder, *, saved):
    """The newest valid checkpoint is whole; another save works and leaves no rest."""
    warnings = []
    found = saving.newest(folder, warnings)
    assert found is not None and not warnings
    assert found.step in ((3,) if saved else (2, 3))
    assert saving.same(found, saving.checkpoint(found.step))
    saving.save(folder, 4)
    assert saving.newest(folder).step == 4
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("half", [False, True], ids=["before", "half-written"])
def test_killed_at_every_call(folder, tmp_path, half):
    names = calls_of_a_save(folder, tmp_path)
    assert {"write", "fsync", "rename", "mkdir", "open", "rmdir"} <= set(names)
    points = [at for at, name in enumerate(names, 1) if name == "write" or not half]
    for at in points:
        here = copy(folder, tmp_path / f"killed{at}")

        def work(here=here, at=at):
            with inject.injected(inject.Injector(at, inject.kill, half=half)):
                saving.save(here, 3)

        # How many calls emptying a directory takes is up to the file system.
        assert inject.in_child(work) == -9 or at > len(names) - 3, f"call {at} was not reached"
        assert_old_or_new(here, saved=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_failing_call_leaves_what_was_there_and_is_exit_5(folder, tmp_path, number):
    names = calls_of_a_save(folder, tmp_path)
    first_write, renamed = names.index("write"), names.index("rename")
    for at in range(1, len(names) + 1):
        here = copy(folder, tmp_path / f"failed{at}")
        raised = False
        with inject.injected(inject.Injector(at, inject.failing(number), half=True)):
            try:
                saving.save(here, 3)
            except EnvironmentFault as error:
                raised = True
                assert error.exit_code == 5
                assert os.strerror(number) in str(error) and str(here) in str(error)
                assert "\n" not in str(error)
        # A directory that is there need not be made; what is unwanted may fail to go.
        harmless = at < first_write or at > renamed
        assert raised or harmless, f"call {at} ({names[at - 1]}) failed unnoticed"
        assert_old_or_new(here, saved=not raised)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.faults
def test_killed_at_every_system_call_under_strace(folder, tmp_path):
    """The same by the kernel's own count: no call is missed that Python makes by other ways."""
    kinds = ("openat,write,fsync,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,"
             "getdents64,close,newfstatat,fstat,lseek")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}

    def run(to, *inject_options):
        return subprocess.run(
            ["strace", "-f", "-o", tmp_path / "trace", "-e", f"trace={kinds}", *inject_options,
             sys.executable, "-m", "tests.faults.saving", to, "3"],
            env=environment, capture_output=True, text=True)

    trial = run(copy(folder, tmp_path / "counted"))
    if trial.returncode and "ptrace" in trial.stderr:
        pytest.skip("strace may not trace here")
    assert trial.returncode == 0, trial.stderr
    calls = [re.match(r"\d+\s+(\w+)\(", line) for line in open(tmp_path / "trace")]
    order = [match[1] for match in calls if match]
    text = (tmp_path / "trace").read_text().splitlines()
    begin = next(i for i, line in enumerate(text) if 'write(1, "begin' in line)
    points = []
    for index in range(begin + 1, len(order)):
        if str(tmp_path / "counted") in text[index] or order[index] in ("write", "fsync"):
            points.append((order[index], order[: index + 1].count(order[index])))
    assert len(points) > 40
    for number, (name, when) in enumerate(points):
        here = copy(folder, tmp_path / f"traced{number}")
        run(here, "-e", f"inject={name}:signal=SIGKILL:when={when}")
        assert_old_or_new(here, saved=False)
        shutil.rmtree(here)

"""Slurm's own daemons as plain processes: a cluster of this one machine, for tests.

Everything lies in one folder and listens on ports that were free: munged has a key and a socket
of its own, so nothing of a Slurm that the machine may have is used or touched. Root is not needed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

_TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))  # Debian's daemons are there
_MISSING = [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]
needed = pytest.mark.skipif(
    bool(_MISSING), reason=f"needs {', '.join(_MISSING)}: `make slurm` installs Slurm on Debian"
)

# cred_expire: seconds until a job that was put back may start (120, left alone; 5 at least).
_CONF = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
FirstJobId={port}
SchedulerParameters=sched_interval=1,bf_interval=1
PartitionName=all Nodes=ALL Default=YES
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster. Jobs run in `folder` (their logs: slurm-JOB.out) and get `environment`,
    as do the commands. `nodes`: their names."""

    folder: Path
    environment: dict[str, str]
    nodes: list[str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def call(self, *command: object) -> str:
        """The output of a command of Slurm's; an AssertionError if it fails."""
        done = subprocess.run(
            [*map(str, command)], cwd=self.folder, env=self.environment, capture_output=True,
            text=True, timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def sbatch(self, *arguments: object) -> str:
        """Submit `[OPTION]... SCRIPT [ARGUMENT]...`; the job's number."""
        return self.call("sbatch", "--parsable", *arguments).strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, ExitCode, Restarts, ..."""
        told = self.call("scontrol", "show", "job", number, "--oneliner")
        return dict(field.split("=", 1) for field in told.split() if "=" in field)

    def log(self, number: str) -> str:
        """What the job wrote so far."""
        path = self.folder / f"slurm-{number}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, number: str, *states: str, seconds: float = 400) -> None:
        """Until the job is in one of `states`; an AssertionError with its log if that stays out."""
        self.until(number, lambda: self.job(number)["JobState"] in states, seconds)

    def until(self, number: str, met: Callable[[], object], seconds: float = 400) -> None:
        """Until `met`; an AssertionError with what is known of the job if that stays out."""
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, f"{self.job(number)}\n{self.log(number)}"
            time.sleep(0.2)

    def start(self, *command: str) -> None:
        """Start a daemon, to its end a child of this process."""
        with open(self.folder / f"{command[0]}.said", "ab") as said:
            self.daemons.append(subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=said, stderr=said))

    def start_node(self, name: str) -> None:
        """A node's daemon, first or again; Slurm uses the node once it has heard of it."""
        self.start("slurmd", "-D", "-N", name)

    def lose_daemon(self, name: str) -> None:
        """A node's daemon is killed, what it started goes on; Slurm hears of it by its operator."""
        self._lose(name, [one for one in running(self) if _is_daemon(one, name)])

    def lose_node(self, name: str) -> None:
        """A node's power is cut; Slurm hears of it by its operator, not after five minutes."""
        self._lose(name, [one for one in running(self) if _is_on(one, name)])

    def _lose(self, name: str, processes: list[psutil.Process]) -> None:
        for act in (psutil.Process.suspend, psutil.Process.kill):  # none sees another die
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    act(process)
        self.call("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")


@contextlib.contextmanager
def cluster(*, nodes: int = 2, cpus: int = 1, **environment: str) -> Iterator[Slurm]:
    """A Slurm of so many nodes, `cpus` each, at most the machine's; jobs get `environment`.

    All of it is ended and removed on the way out. The first node's name is this machine's
    address: it must lead to one, and /etc/hosts is not ours to write.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)  # munged wants its socket where all may reach it
        port, *ports = _free_ports(1 + nodes)
        names = [_address(), *(f"n{number}" for number in range(2, nodes + 1))]
        conf = _CONF.format(port=port, user=pwd.getpwuid(os.geteuid()).pw_name, folder=folder)
        for name, own in zip(names, ports, strict=True):
            place = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={own}"
            conf += f"NodeName={name} {place} CPUs={cpus}\n"
        (folder / "slurm.conf").write_text(conf)
        (folder / "state").mkdir()
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o600)
        variables = {
            **os.environ, "PATH": _PATH, **environment, "SLURM_CONF": str(folder / "slurm.conf")
        }
        slurm = Slurm(folder, variables, names)
        stack.callback(_end, slurm)
        munge = [f"--{key}-file={folder}/munge.{key}" for key in ("pid", "log", "seed")]
        munge += [f"--key-file={folder}/key", f"--socket={folder}/munge.socket"]
        slurm.start("munged", "--foreground", *munge)
        slurm.start("slurmctld", "-D")
        for name in names:
            slurm.start_node(name)
        _await_nodes(slurm, nodes)
        yield slurm


def _await_nodes(slurm: Slurm, nodes: int) -> None:
    end = time.monotonic() + 60
    told = ""
    while told.split() != ["idle"] * nodes:
        said = {path.name: path.read_text() for path in slurm.folder.glob("*.said")}
        assert time.monotonic() < end, f"Slurm does not start: {told} {said}"
        time.sleep(0.2)
        with contextlib.suppress(AssertionError):  # slurmctld does not answer yet
            told = slurm.call("sinfo", "--Node", "--noheader", "--format=%T")


def running(slurm: Slurm) -> list[psutil.Process]:
    """The daemons and all that their jobs started, however it was detached since."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            conf = process.environ().get("SLURM_CONF")
            # slurmstepd writes its title over its environment.
            if conf == slurm.environment["SLURM_CONF"] or process.cwd() == str(slurm.folder):
                found.append(process)
    return found


def _is_daemon(process: psutil.Process, node: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[-2:] == ["-N", node]
    return False


def _is_on(process: psutil.Process, node: str) -> bool:
    """Whether it is a node's daemon, of one of its jobs, or (slurmstepd) the parent of such."""
    with contextlib.suppress(psutil.Error):
        if _is_daemon(process, node) or process.environ().get("SLURMD_NODENAME") == node:
            return True
        return process.name() == "slurmstepd" and any(
            one.environ().get("SLURMD_NODENAME") == node for one in process.children())
    return False


def _end(slurm: Slurm) -> None:
    while found := running(slurm):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=5)
    for daemon in slurm.daemons:
        daemon.wait()


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _address() -> str:
    """This machine's own, as others would see it, where it has one."""
    here = [
        a.address for found in psutil.net_if_addrs().values() for a in found
        if a.family == socket.AF_INET
    ]
    return next((address for address in here if not address.startswith("127.")), "127.0.0.1")

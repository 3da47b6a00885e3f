"""Where the machines of a job meet: the addresses that paddle's launcher is to be given.

Left to itself the launcher takes the address that this machine's name resolves to (127.0.1.1 on
many systems), compares it as text with the master's to learn who is first, and so waits for ever
where the master is a name, as a scheduler gives it.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from harness.base.errors import EnvironmentFault, UsageError

ETCD = "etcd://"


@dataclass(frozen=True)
class Place:
    """This machine's in a job: `master` as paddle takes it, own address, number where known."""

    master: str
    host: str
    rank: int | None = None

    def options(self) -> list[str]:
        """For paddle's launcher."""
        rank = [] if self.rank is None else ["--rank", str(self.rank)]
        return ["--master", self.master, "--host", self.host, *rank]

    def interface(self) -> str | None:
        """The network interface that has the own address."""
        import psutil

        found = (
            name for name, addresses in psutil.net_if_addrs().items()
            if self.host in {a.address for a in addresses}
        )
        return next(found, None)


def find(master: str, ips: str | None, nnodes: int) -> Place:
    """The place of the machine that this is called on.

    `master`: HOST:PORT of the first machine, or etcd://HOST:PORT. `ips`: all machines' addresses,
    comma-separated, the first machine's first. UsageError, or EnvironmentFault if a name is
    not known or leads nowhere.
    """
    scheme = ETCD if master.startswith(ETCD) else ""
    host, _, port = master.removeprefix(ETCD).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--master {master} is not HOST:PORT", remedy="as in 10.0.0.1:8090")
    # An address: paddle strips the letters of "etcd" from a name as well.
    address = _resolve(host)
    listed = ips.split(",") if ips else []
    if listed and len(listed) != nnodes:
        raise UsageError(
            f"--ips names {len(listed)} machines and --nnodes {nnodes}",
            remedy="name every one once",
        )
    own = _own_among(listed) if listed else _own_towards(address)
    if _is_loopback(address) and host not in (address, "localhost") and nnodes > 1:
        raise EnvironmentFault(
            f"--master {host} is {address} on this machine, where no other machine reaches it",
            remedy="give the address that the others see, or all of them: --ips",
        )
    return Place(f"{scheme}{address}:{port}", own, listed.index(own) if listed else None)


def of_slurm_step(environment: Mapping[str, str]) -> tuple[int, str] | None:
    """(number of machines, HOST:PORT of the first) for what srun started once on each of several.

    None elsewhere. The port follows the job's number, so that two jobs on a machine do not meet.
    EnvironmentFault if Slurm does not tell the first machine's name.
    """
    count = environment.get("SLURM_STEP_NUM_NODES", "1")
    if count == "1" or count != environment.get("SLURM_STEP_NUM_TASKS") or not count.isdigit():
        return None
    names = environment.get("SLURM_STEP_NODELIST", "")
    try:
        told = subprocess.run(
            ["scontrol", "show", "hostnames", names], capture_output=True, text=True, timeout=60,
            check=True,
        )
        first = told.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise EnvironmentFault(
            f"Slurm does not say which machines {names} are", remedy="give --nnodes and --master"
        ) from error
    return int(count), f"{first}:{20_000 + int(environment.get('SLURM_JOB_ID', 0)) % 10_000}"


def _resolve(host: str) -> str:
    """The IPv4 address of a name (paddle knows no other kind)."""
    try:
        return socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0]
    except OSError as error:
        raise EnvironmentFault(
            f"--master: {host} is not known here ({error.strerror})", remedy="give its address"
        ) from error


def _own_towards(address: str) -> str:
    """This machine's address on the way to `address`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError as error:
            raise EnvironmentFault(
                f"no way leads from here to --master {address} ({error.strerror})",
                remedy="give an address that this machine reaches",
            ) from error
        return probe.getsockname()[0]


def _own_among(listed: list[str]) -> str:
    import psutil

    here = {a.address for found in psutil.net_if_addrs().values() for a in found}
    own = [address for address in listed if address in here]
    if len(own) != 1:
        raise UsageError(
            f"{len(own) or 'none'} of --ips {','.join(listed)} is this machine's",
            remedy="--ips takes each machine's own address once, as `ip address` shows it there",
        )
    return own[0]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback

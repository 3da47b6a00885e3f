"""Several processes working on one run: who does what, and what they tell one another.

`World` is all that the rest knows of it; `World.alone()` is the same with one
process. Processes are started by `paddle.distributed.launch` (see
`harness.distributed.launch`) or by a scheduler that sets paddle's environment variables.
Collectives go through gloo on CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.base.errors import EnvironmentFault, HarnessError, Interrupted, UsageError
from harness.distributed import rank_reports
from harness.distributed.worker_death import Lifeline

if TYPE_CHECKING:  # its threads must begin where signals are held (harness.base.paddle_env)
    import numpy as np

_CHUNK = 4 << 20  # elements of one gloo all_gather: the same time as one large one, less memory
_PATIENCE = 24 * 3600.0  # seconds that one rank may save or evaluate while others wait
_PARTING = 20.0  # seconds that the leader stays for the others to leave


@dataclass
class World:
    """This process is `rank` of `size`. One process needs no paddle.distributed at all."""

    rank: int = 0
    size: int = 1
    _met: int = field(default=0, repr=False)
    waited: float = field(default=0.0, repr=False)  # seconds in collectives and in meet(), in all
    line: Lifeline | None = field(default=None, repr=False)
    where: str = field(default="", repr=False)  # this process is, for an error: " in step 12"

    @classmethod
    def alone(cls) -> World:
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def meet(self) -> None:
        """Return when every process has called this as often; any time may pass before.

        Every gloo collective gives up after 30 s, whatever timeout it is given, so
        whoever may be late (saving, evaluating, a slow step) is met here first: a
        counter on the job's TCP store, polled.
        """
        if self.size == 1:
            return
        import paddle

        store = paddle.base.core.create_or_get_global_tcp_store()
        self._met += 1
        began = time.monotonic()
        store.add(f"meet/{self._met}", 1)
        pause = 0.0005
        while store.add(f"meet/{self._met}", 0) < self.size:
            if time.monotonic() - began > _PATIENCE:
                raise EnvironmentFault(f"rank {self.rank} waited a day for the others")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        self.waited += time.monotonic() - began

    def leave(self) -> None:
        """The last thing that each process of a job does that ends as it should.

        The leader goes last: it holds the store on which others may still be polling.
        """
        if self.size == 1:
            return
        import paddle

        store = paddle.base.core.create_or_get_global_tcp_store()
        if self.line:
            self.line.leave()
        store.add("leave", 1)
        end = time.monotonic() + _PARTING
        while self.leads and store.add("leave", 0) < self.size and time.monotonic() < end:
            time.sleep(0.01)

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        """Everybody's `values` (float32 or float64 [n], equal n), in order of rank."""
        if self.size == 1:
            return [values]
        import numpy as np
        import paddle
        import paddle.distributed as dist

        self.meet()
        began = time.monotonic()
        found = [np.empty_like(values) for _ in range(self.size)]
        for first in range(0, len(values), _CHUNK):
            part = values[first : first + _CHUNK]
            tensors: list[Any] = []
            dist.all_gather(tensors, paddle.to_tensor(part))
            for rank, tensor in enumerate(tensors):
                found[rank][first : first + _CHUNK] = tensor.numpy()
        self.waited += time.monotonic() - began
        return found

    def lead(self, value: float) -> float:
        """The value of the process that leads, on every process."""
        import numpy as np

        return float(self.gather(np.array([value], np.float64))[0][0])

    def broadcast(self, values: np.ndarray, source: int) -> np.ndarray:
        """`values` of rank `source` (float32 [n]; others give any array of that size)."""
        if self.size == 1:
            return values
        import paddle
        import paddle.distributed as dist

        self.meet()
        began = time.monotonic()
        tensor = paddle.to_tensor(values)
        dist.broadcast(tensor, source)
        self.waited += time.monotonic() - began
        return tensor.numpy()

    def owners(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Which rank keeps the state of which parameter: largest first, to whoever has least."""
        load = [0] * self.size
        found = {}
        for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
            rank = load.index(min(load))
            load[rank] += sizes[name]
            found[name] = rank
        return found

    def spread(
        self, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]],
        owners: Mapping[str, int],
    ) -> dict[str, np.ndarray]:
        """Every array from its owner to everybody; `arrays` holds at least the own ones."""
        import numpy as np

        found = {}
        for rank in range(self.size):
            names = [name for name in shapes if owners[name] == rank]
            if not names:
                continue
            total = sum(int(np.prod(shapes[name], dtype=np.int64)) for name in names)
            mine = rank == self.rank
            flat = (
                np.concatenate([arrays[name].reshape(-1) for name in names])
                if mine
                else np.empty(total, np.float32)
            )
            flat = self.broadcast(flat, rank)
            at = 0
            for name in names:
                count = int(np.prod(shapes[name], dtype=np.int64))
                found[name] = flat[at : at + count].reshape(shapes[name])
                at += count
        return found


def started_by_launch() -> bool:
    """Whether a launcher or scheduler made this process a worker (the only one, possibly)."""
    return {"PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"} <= os.environ.keys()


def join() -> World:
    """Join the job that the environment describes; `World.alone()` where it describes none."""
    if not started_by_launch():
        return World.alone()
    die_with_parent(signal.SIGKILL)
    if int(os.environ["PADDLE_TRAINERS_NUM"] or 1) < 2:
        return World.alone()
    import paddle
    import paddle.distributed as dist

    # It greets on stdout, and lists on stderr the flags that harness.base.paddle_env has set.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        dist.init_parallel_env()
    rank, size = dist.get_rank(), dist.get_world_size()
    # As paddle finds the machine of its store.
    first = os.environ.get("PADDLE_MASTER") or os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]
    host = os.environ.get("MASTER_ADDR") or first.rpartition(":")[0]
    store = paddle.base.core.create_or_get_global_tcp_store()
    world = World(rank, size, line=Lifeline(rank, size, store, host))
    _send_at_once()
    return world


def _send_at_once() -> None:
    """Have every TCP socket of this process send what is written at once (TCP_NODELAY).

    Paddle's store writes a request in four pieces, and the kernel holds the second back until the
    first is acknowledged, which its receiver puts off: 40 ms a request, several in every step.
    """
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the listing is closed
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """`join`, and taking leave of the others: also with an error, which they are told."""
    world = join()
    try:
        yield world
    except Interrupted:  # all of them together
        world.leave()
        raise
    except BaseException as error:
        if world.line:
            if rank_reports.is_no_answer(str(error)):
                world.line.unanswered(world.where)
            if not isinstance(error, HarnessError):
                world.line.give_way()
            world.line.fail(getattr(error, "exit_code", 1), f"rank {world.rank} failed: {error}")
        raise
    world.leave()
    rank_reports.done()
    if world.size > 1:
        atexit.register(_end_at_once)


def _end_at_once() -> None:
    """End a worker whose work is done, and leave the rest to the kernel.

    Taking down paddle's communication with the interpreter aborts now and then (SIGABRT, after
    everything was written), which would make a failed job of a finished one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def die_with_parent(number: int) -> None:
    """Ask the kernel to send this process `number` when its parent dies (Linux prctl).

    A launcher that is killed would otherwise leave its workers running.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number, 0, 0, 0)


def local_share(global_batch_size: int, micro_batch_size: int, world: World) -> int:
    """Samples of a global batch that one process takes; UsageError names possible sizes."""
    if global_batch_size % world.size:
        possible = [n for n in range(1, global_batch_size + 1) if global_batch_size % n == 0]
        raise UsageError(
            f"a global batch of {global_batch_size} cannot be divided among {world.size} processes",
            remedy=f"possible: {', '.join(map(str, possible[:24]))}",
        )
    local = global_batch_size // world.size
    if micro_batch_size < local and local % micro_batch_size:
        possible = [n for n in range(1, local + 1) if local % n == 0]
        raise UsageError(
            f"{local} samples a process are no multiple of train.micro_batch_size "
            f"{micro_batch_size}",
            remedy=f"possible: {', '.join(map(str, possible[:24]))}",
        )
    return local


def check_shards(shards: int, world: World) -> None:
    """UsageError unless the shards and the processes make a binary tree together."""
    for what, number in (("train.shards", shards), ("the number of processes", world.size)):
        if number & (number - 1):
            raise UsageError(f"{what} is {number}; fixed-order reduction needs a power of two")
    if world.size > shards:
        raise UsageError(
            f"{world.size} processes are more than train.shards = {shards}",
            remedy="use fewer processes, or a config with more shards",
        )


def micro_batches(
    *, global_batch_size: int, micro_batch_size: int, shards: int | None, world: World
) -> Iterator[tuple[int, range]]:
    """(shard, positions in the global batch) of this process's micro-batches, in order.

    `shards`: the number of pieces whose gradients are added in fixed order, or None
    for `fast`, where a process's whole share is one piece.
    """
    local = local_share(global_batch_size, micro_batch_size, world)
    size = global_batch_size // shards if shards else local
    micro = min(micro_batch_size, size)
    first = world.rank * local
    for start in range(first, first + local, size):
        for at in range(start, start + size, micro):
            yield start // size, range(at, min(at + micro, start + size))

"""Start `paddle.distributed.launch` on this machine's share of a job, and mind it.

Paddle's launcher starts the workers and ends them all when one dies. What it
leaves to be done is done here: rank 0's output reaches the terminal, the last
error of every rank reaches the user with the rank's name, nobody outlives the
job, and a job that died can be started again (launch's own restart needs etcd).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files, parallel
from harness.errors import EnvironmentFault, HarnessError, Interrupted
from harness.progress import say

REPORTS = "HARNESS_RANK_REPORTS"  # where a worker leaves its last error
_EXPECTED = (2, 4, 5, 3)  # exit codes of expected errors; the first one found is the job's
_GRACE = 60.0  # seconds for workers to finish a step and save after a signal


@dataclass(frozen=True)
class Job:
    """`nproc` workers here, on `nnodes` machines; `arguments` are the harness's own, for them."""

    arguments: tuple[str, ...]
    nproc: int = 1
    nnodes: int = 1
    master: str | None = None
    ips: str | None = None
    devices: str | None = None
    max_restarts: int = 0


class RankDied(EnvironmentFault):
    """A rank was killed or crashed; the job can be started again from the newest checkpoint."""


def run(job: Job) -> None:
    """Run the job to its end.

    Raises what the ranks' errors amount to, naming every rank's last one: RankDied after
    `max_restarts` new starts, Interrupted after SIGTERM or Ctrl-C, else a HarnessError with
    the ranks' own exit code.
    """
    for attempt in range(job.max_restarts + 1):
        with tempfile.TemporaryDirectory(prefix="harness-launch-") as folder:
            failed = _run_once(job, Path(folder))
        if failed is None:
            return
        if attempt == job.max_restarts or not isinstance(failed, RankDied):
            raise failed
        say(f"{failed.message}; starting again ({attempt + 1} of {job.max_restarts})")


def command(job: Job, logs: Path) -> list[str]:
    """The command line of paddle's launcher for `job`.

    `--backend` is never given: it would select paddle's old launcher.
    """
    options = ["--nproc_per_node", str(job.nproc), "--log_dir", str(logs), "--job_id", "harness"]
    if job.nnodes > 1:
        options += ["--nnodes", str(job.nnodes)]
    for name in ("master", "ips", "devices"):
        if value := getattr(job, name):
            options += [f"--{name}", value]
    script = str(Path(__file__).parent / "__main__.py")
    return [sys.executable, "-m", "paddle.distributed.launch", *options, script, *job.arguments]


def _run_once(job: Job, folder: Path) -> HarnessError | None:
    logs, reports = folder / "log", folder / "reports"
    reports.mkdir()
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, REPORTS: str(reports), "PYTHONPATH": path}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // job.nproc)))
    with open(folder / "launcher", "wb") as output:
        process = subprocess.Popen(
            command(job, logs), env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=functools.partial(parallel.die_with_parent, signal.SIGTERM),
        )
    with _forwarding(process) as asked, _echo(logs / "workerlog.0"):
        code = process.wait()
    told = _reports(reports)
    if asked:
        return Interrupted(
            _told(told) or "stopped", remedy="run the same command again to continue"
        )
    if code == 0 and not told:
        return None
    return _failure(code, told, logs, folder / "launcher")


def _failure(code: int, told: list[dict[str, Any]], logs: Path, launcher: Path) -> HarnessError:
    silent = _silent_workers(logs, {one["worker"] for one in told})
    message = "; ".join(filter(None, (_told(told), silent)))
    again = "run the same command again to continue from the last checkpoint"
    kinds = {one["code"] for one in told}
    # Whoever waits for a dead rank ends badly too; what those say comes from that.
    if silent:
        return RankDied(message, remedy=again)
    if not told:
        return RankDied(f"the launcher ended with {code}: {_tail(launcher)}", remedy=again)
    if kinds == {75}:
        return Interrupted(message, remedy=again)
    error = HarnessError(message)
    error.exit_code = next((kind for kind in _EXPECTED if kind in kinds), 1)
    return error


def _told(told: list[dict[str, Any]]) -> str:
    """Every rank's last error with the rank's name; equal ones once."""
    messages: dict[str, list[int]] = {}
    for one in told:
        messages.setdefault(one["message"], []).append(one["rank"])
    return "; ".join(
        f"rank {', '.join(map(str, ranks))}: {message}" for message, ranks in messages.items()
    )


def _silent_workers(logs: Path, spoken: set[int]) -> str:
    """Workers that left no report (killed, or crashed in C++), with the end of their log.

    Logs are numbered by place on this machine: the rank, where there is one machine.
    """
    found = []
    for path in sorted(logs.glob("workerlog.*")):
        number = path.name.rpartition(".")[2]
        if number.isdigit() and int(number) not in spoken and (text := _tail(path)):
            found.append(f"worker {number} here ended without a word, its log with: {text}")
    return "; ".join(found)


def _tail(path: Path, most: int = 300) -> str:
    try:
        lines = path.read_bytes()[-20_000:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:most] if said else ""


def _reports(folder: Path) -> list[dict[str, Any]]:
    """Of each rank that ended with an error; what was expected first, as the cause of the rest."""
    told = [files.read_json(path) for path in folder.glob("*.json")]
    return sorted(told, key=lambda one: (one["code"] not in _EXPECTED, one["rank"]))


def report_error(code: int, message: str) -> bool:
    """Called by a worker that ends with an error: leave it where the launcher's parent looks.

    Returns whether somebody will read it there.
    """
    folder = os.environ.get(REPORTS)
    read = bool(folder) and Path(folder).is_dir()
    if read:
        rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        worker = int(os.environ.get("PADDLE_RANK_IN_NODE", rank))
        report = {"rank": rank, "worker": worker, "code": code, "message": message}
        (Path(folder) / f"{rank}.json").write_text(json.dumps(report))
    return read


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C go to the workers; a second one ends them at once."""
    asked: list[int] = []

    def forward(number: int, _: Any) -> None:
        asked.append(number)
        if len(asked) == 1:
            _signal_workers(process.pid, signal.SIGTERM)
            threading.Thread(target=_end_after, args=(process,), daemon=True).start()
        else:
            process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    former = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.terminate()


def _signal_workers(launcher: int, number: int) -> None:
    """Signal the launcher's children; not the launcher, which would kill them after 3 s."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(launcher).children():
            child.send_signal(number)


def _end_after(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.terminate()


@contextlib.contextmanager
def _echo(log: Path) -> Iterator[None]:
    """Copy what rank 0 writes to stderr while the context lasts."""
    ended = threading.Event()

    def copy() -> None:
        at = 0
        while True:
            over = ended.is_set()
            with contextlib.suppress(OSError), open(log, "rb") as file:
                file.seek(at)
                text = file.read()
                at += len(text)
                sys.stderr.write(text.decode(errors="replace"))
                sys.stderr.flush()
            if over:
                return
            time.sleep(0.2)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

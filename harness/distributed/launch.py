"""Start `paddle.distributed.launch` on this machine's share of a job, and mind it.

Paddle's launcher starts the workers and ends them all when one dies. What it
leaves to be done is done here: rank 0's output reaches the terminal, the last
error of every rank reaches the user with the rank's name, nobody outlives the
job, and a job that died can be started again. Paddle's own restart needs etcd:
where a job meets there, starting again is left to it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
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

from harness.base import insistent_signals, nvml
from harness.base.errors import EnvironmentFault, HarnessError, Interrupted, UsageError
from harness.base.paddle_env import default_threads, has_gpu_build
from harness.base.progress import say
from harness.distributed import paddle_launcher, process_group, rank_reports, rendezvous

_GRACE = 60.0  # seconds for workers to finish a step and save after a signal


@dataclass(frozen=True)
class Job:
    """`nproc` workers here, on `nnodes` machines; `arguments` are the harness's own, for them.

    `name`: the job's in etcd, where other jobs may meet too. `threads`: of each worker, None for
    its share of the cores; not where bits must not depend on the number of workers, since they
    do depend on the number of threads.
    """

    arguments: tuple[str, ...]
    nproc: int = 1
    nnodes: int = 1
    master: str | None = None
    ips: str | None = None
    devices: str | None = None
    max_restarts: int = 0
    name: str = "harness"
    threads: int | None = None

    @property
    def wanted(self) -> bool:
        """Whether this process must start workers, being none itself."""
        several = self.nproc > 1 or self.nnodes > 1 or self.devices or self.max_restarts
        return bool(several) and not process_group.started_by_launch()

    @property
    def meets_in_etcd(self) -> bool:
        return (self.master or "").startswith(rendezvous.ETCD)


class RankDied(EnvironmentFault):
    """A rank was killed or crashed; the job can be started again from the newest checkpoint."""


def run(job: Job) -> str:
    """Run the job to its end; returns what rank 0 gave `rank_reports.result`.

    Raises what the ranks' errors amount to, naming every rank's last one: RankDied after
    `max_restarts` new starts, Interrupted after SIGTERM or Ctrl-C, else a HarnessError with
    the ranks' own exit code.
    """
    if job.nnodes > 1 and not job.master:
        raise UsageError("--nnodes needs --master HOST:PORT", remedy="the first machine's address")
    if job.devices and not has_gpu_build():
        raise EnvironmentFault(
            f"--devices {job.devices} names GPUs; the paddle installed here is the CPU build",
            remedy="`make install DEVICE=gpu`, or give --nproc alone",
        )
    if job.devices:
        nvml.driver()  # paddle's launcher ends in a traceback without one
    if job.meets_in_etcd and importlib.util.find_spec("etcd3") is None:
        raise EnvironmentFault(
            f"--master {job.master} needs the Python package etcd3, which is not installed",
            remedy="install it, or give the first machine's HOST:PORT",
        )
    restarts = 0 if job.meets_in_etcd else job.max_restarts
    attempt = 0
    while True:
        with tempfile.TemporaryDirectory(prefix="harness-launch-") as folder:
            ended = _run_once(job, Path(folder))
        if isinstance(ended, str):
            return ended
        if attempt == restarts or not isinstance(ended, RankDied):
            raise ended
        attempt += 1
        say(f"{ended.message}; starting again ({attempt} of {restarts})")


def command(job: Job, logs: Path) -> list[str]:
    """The command line of paddle's launcher for `job`.

    `--backend` is never given: it would select paddle's old launcher.
    """
    options = ["--nproc_per_node", str(job.nproc), "--log_dir", str(logs), "--job_id", job.name]
    if job.nnodes > 1:
        options += ["--nnodes", str(job.nnodes)]
    if job.master:
        options += rendezvous.find(job.master, job.ips, job.nnodes).options()
    if job.meets_in_etcd:
        # Level 1: a failed job's workers are started again, here and on the other machines.
        level = 1 if job.max_restarts else -1
        options += ["--max_restart", str(job.max_restarts), "--elastic_level", str(level)]
    if job.devices:
        options += ["--devices", job.devices]
    script = str(Path(__file__).parents[1] / "__main__.py")
    return [sys.executable, "-m", paddle_launcher.__name__, *options, script, *job.arguments]


def _run_once(job: Job, folder: Path) -> str | HarnessError:
    """Rank 0's result, or how the job failed."""
    logs, reports = folder / "log", folder / "reports"
    reports.mkdir()
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, rank_reports.FOLDER: str(reports), "PYTHONPATH": path}
    # Never left unset: paddle's launcher would set it to 1.
    share = max(1, default_threads() // job.nproc)
    environment.setdefault("OMP_NUM_THREADS", str(job.threads or share))
    if job.threads and job.threads > share:
        # More threads than cores: those that wait must leave the core to one that works.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    if job.nnodes > 1 and job.master:
        # Gloo takes the address that this machine's name has, which may be the loopback's.
        interface = rendezvous.find(job.master, job.ips, job.nnodes).interface()
        if interface:
            environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    with open(folder / "launcher", "wb") as output:
        process = subprocess.Popen(
            command(job, logs), env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=functools.partial(process_group.die_with_parent, paddle_launcher.END),
        )
    with _forwarding(process) as asked, _echo(logs / "workerlog.0"):
        code = process.wait()
    told = rank_reports.read_errors(reports)
    # Asked during the last step, the ranks finish: then there is nothing to continue.
    if asked and (code or told or not rank_reports.read_result(reports)):
        message = rank_reports.in_words(told) or "stopped"
        again = "run the same command again"  # what the ranks say has it already
        return Interrupted(message, remedy=None if again in message else f"{again} to continue")
    # Paddle's own restarts leave reports of ranks that ended badly in a job that ended well.
    if code == 0 and (not told or job.meets_in_etcd):
        return rank_reports.read_result(reports)
    silent = _in_words(rank_reports.read_silent(reports, job.nproc), logs)
    return _failure(code, told, silent, folder / "launcher")


def _failure(
    code: int, told: list[dict[str, Any]], silent: str, launcher: Path
) -> HarnessError:
    own = [one for one in told if one["kind"] == "own"]
    again = "run the same command again to continue from the last checkpoint"
    # Whoever waits for a dead rank ends badly too, in many ways, but in none of the expected ones.
    codes = [one["code"] for one in told if one["kind"] != "lost"]
    expected = [code for code in codes if code in rank_reports.EXPECTED]
    if expected:
        error = HarnessError(rank_reports.in_words(own or told))
        error.exit_code = expected[0]
        return error
    message = "; ".join(filter(None, (rank_reports.in_words(told), silent)))
    if silent or any(one["kind"] == "lost" for one in told):
        return RankDied(message, remedy=again)
    if not told:
        return RankDied(f"the launcher ended with {code}: {_tail(launcher)}", remedy=again)
    if set(codes) == {75}:
        return Interrupted(message, remedy=again)
    error = HarnessError(message)
    error.exit_code = 1
    return error


def _in_words(silent: list[int], logs: Path) -> str:
    """Workers that ended without a word, with the end of their logs.

    Logs are numbered by place on this machine: the rank, where there is one machine.
    """
    found: dict[str, list[str]] = {}
    for number in silent:
        log = logs / f"workerlog.{number}"
        if log.exists():
            last = _tail(log)
            said = f", its log with: {last}" if last else ""
            # Where gloo is called by paddle's backward pass, its error ends the process at once.
            waited = rank_reports.is_no_answer(last)
            how = f"had {rank_reports.NO_ANSWER}" if waited else f"ended without a word{said}"
            found.setdefault(how, []).append(str(number))
    return "; ".join(f"worker {', '.join(ones)} here {how}" for how, ones in found.items())


def _tail(path: Path, most: int = 300) -> str:
    try:
        lines = path.read_bytes()[-20_000:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:most] if said else ""


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C go to the workers; a second one ends them at once."""
    asked: list[int] = []

    def forward(number: int, _: Any) -> None:
        insistent_signals.end()
        asked.append(number)
        if len(asked) == 1:
            _signal_workers(process, signal.SIGTERM)
            threading.Thread(target=_end_after, args=(process,), daemon=True).start()
        else:
            process.send_signal(paddle_launcher.END)

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
            process.send_signal(paddle_launcher.END)


def _signal_workers(launcher: subprocess.Popen[bytes], number: int) -> None:
    """Signal the launcher's children; not the launcher, which would kill them after 30 s.

    Where it has none yet, nothing is lost with it: it would go on to start them.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        children = psutil.Process(launcher.pid).children()
        for child in children:
            child.send_signal(number)
        if not children:
            launcher.send_signal(paddle_launcher.END)


def _end_after(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.send_signal(paddle_launcher.END)


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

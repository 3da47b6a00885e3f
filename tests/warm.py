"""A process that has imported paddle once and forks a `harness` command whenever asked.

Each command is a process of its own, which can be killed, limited and waited for; it only does
not import paddle, and what imports as slowly, again: 1 to 3 s. `Warm` is the test's side.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import ROOT, environment


@dataclass
class Child:
    """One command: process id, and the files that its output goes to."""

    pid: int
    out: Path
    err: Path


@dataclass
class Ended:
    """How it ended; `returncode` is negative for a signal; `peak_bytes` of resident memory."""

    returncode: int
    stdout: str
    stderr: str
    peak_bytes: int


class Warm:
    """The server, which starts with the first command; a context manager.

    It imports `modules` beside paddle; it and its commands have `variables` beside ours.
    """

    def __init__(self, folder: Path, *modules: str, **variables: str):
        self._folder, self._modules, self._count = folder, modules, 0
        self.environment = environment(**variables)
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.stdin.close()
            self._server.wait(60)

    def start(
        self, *arguments: object, cwd: Path | None = None, timeout: int = 0, more_memory: int = 0,
    ) -> Child:
        """Start `harness ARGUMENTS` in `cwd`; `timeout`: seconds after which SIGALRM ends it,
        `more_memory`: bytes of address space it may add, both if not 0."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{kind}" for kind in ("out", "err"))
        out.touch(), err.touch()  # a signal can strike before the child opens them
        pid = self._ask({"argv": [*map(str, arguments)], "out": str(out), "err": str(err),
                         "cwd": str(cwd or Path.cwd()), "timeout": timeout,
                         "more_memory": more_memory})
        return Child(pid, out, err)

    def wait(self, child: Child) -> Ended:
        status, peak = self._ask({"wait": child.pid})
        return Ended(status, child.out.read_text(), child.err.read_text(), peak)

    def run(self, *arguments: object, **options: Any) -> Ended:
        """Start and wait; `options` are those of `start`."""
        return self.wait(self.start(*arguments, **options))

    def _ask(self, request):
        if not self._server:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", *self._modules], cwd=ROOT, text=True,
                env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            self._answer()
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self):
        return json.loads(self._server.stdout.readline())


def wait_for(condition, *, seconds: float = 60.0) -> None:
    """Poll until `condition()`; AssertionError if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def _child(request) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT
                      else signal.SIG_DFL)
    for descriptor, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    signal.alarm(request["timeout"])
    if request["more_memory"]:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + request["more_memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from harness import cli

    sys.argv = ["harness", *request["argv"]]
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    threading._shutdown()  # as an interpreter's end does: waits for threads, then
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    from harness.base import paddle_env

    paddle_env.require_paddle()
    for name in sys.argv[1:]:
        importlib.import_module(name)

    print("0", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status, usage = os.wait4(request["wait"], 0)
            answer = [os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]
            print(json.dumps(answer), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _child(request)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()

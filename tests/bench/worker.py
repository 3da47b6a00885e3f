"""One side of a comparison in a process of its own, which works when it is told to.

Paddle and torch never share a process, and neither do two settings of paddle. Workers take turns:
each does one piece of work, times it itself, and answers; so one series holds all sides.

    with Worker("tests.bench.uvit_torch:UViT", threads=2, folder=...) as worker:
        seconds = worker.step()["seconds"]

The process runs `python -m tests.bench.worker MODULE:CLASS ARGUMENTS` and answers one line of JSON
on stdout for each one on stdin; it ends when stdin does.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Threads of OpenMP spin for a while after their work (Intel's for 200 ms) and would take the
# processor from whoever's turn is next.
SETTLE_SECONDS = 0.25
# What would make a library behave otherwise than its defaults: not handed on.
_SETTINGS = (
    "FLAGS_", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "MALLOC_", "TORCH_", "NVIDIA_TF32",
    "HARNESS_",
)


def clean_environment(threads: int, **more: str) -> dict[str, str]:
    """This process's environment without settings of the numerical libraries, but for threads."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, **more}


class Worker:
    """A running worker; `worker.method(key=value)` calls that method of its object."""

    def __init__(
        self, target: str, *, threads: int, environment: dict[str, str] | None = None,
        **arguments: Any,
    ):
        self._target = target
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker", target, json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            env=clean_environment(threads, **(environment or {})),
        )
        self._ready = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda **arguments: self._ask(method, arguments)

    def wait(self) -> None:
        """Until its object is made: several workers start at once, then each is waited for."""
        if not self._ready:
            self._answer()
            self._ready = True

    def _ask(self, method: str, arguments: dict[str, Any]) -> Any:
        self.wait()
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        time.sleep(SETTLE_SECONDS)
        return answer

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._failed(f"ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise self._failed(answer["error"])
        return answer["value"]

    def _failed(self, what: str) -> WorkerFailed:
        """With what it said on stderr, which is kept back otherwise: libraries warn a lot."""
        self._log.seek(0)
        return WorkerFailed(f"{self._target}: {what}\n{self._log.read()[-3000:]}")


class WorkerFailed(RuntimeError):
    """A worker died or raised; the message says what it said."""


def main(target: str, arguments: str) -> None:
    """Make the object, then serve until stdin ends."""
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print stays out of the answers

    def answer(work: Callable[[], Any]) -> None:
        try:
            told = {"value": work()}
        except Exception as error:
            traceback.print_exc()
            told = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(told), file=out, flush=True)

    module, _, name = target.partition(":")
    made: list[Any] = []

    def make() -> None:
        made.append(getattr(importlib.import_module(module), name)(**json.loads(arguments)))

    answer(make)
    for line in sys.stdin if made else ():
        method, given = json.loads(line)
        answer(lambda method=method, given=given: getattr(made[0], method)(**given))


if __name__ == "__main__":
    main(*sys.argv[1:])

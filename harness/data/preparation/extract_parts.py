"""Extraction shared among processes, one a device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from harness.base.errors import HarnessError


class PartFailed(HarnessError):
    """A process that did a part has failed; it has said why on stderr."""

    def __init__(self, part: int, code: int):
        super().__init__(f"part {part + 1} of the extraction failed (exit {code})",
                         remedy="see the line above; run the same command again to go on")
        self.exit_code = code if code in (2, 4, 5, 75) else 1


def devices() -> int:
    """GPUs at hand, or 1 (imports paddle)."""
    import paddle

    return max(1, paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 1


@contextlib.contextmanager
def others(arguments: Sequence[str], count: int, *, gpus: bool) -> Iterator[None]:
    """Beside this process, which does part 0, run `harness ARGUMENTS --part k/n` for k = 1...

    Process k works on GPU k. Leaving the context waits for them; PartFailed if one
    failed. If this process is interrupted they are stopped; what they wrote stays.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(1, count):
            environment = dict(os.environ)
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = _visible(number)
            command = [sys.executable, "-m", "harness", *arguments, "--part", f"{number}/{count}"]
            processes.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            )
        yield
        codes = [process.wait() for process in processes]
    except HarnessError:
        for process in processes:
            process.wait()
        raise
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:  # they write what the next call may write, too
            process.wait()
    for number, code in enumerate(codes, 1):
        if code:
            raise PartFailed(number, code)


def _visible(number: int) -> str:
    """GPU `number` of those that this process may see."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed.split(",")[number] if listed else str(number)

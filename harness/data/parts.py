"""Extraction shared among processes, one a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from harness.errors import HarnessError


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


def share(arguments: Sequence[str], count: int, *, gpus: bool) -> None:
    """Run `harness ARGUMENTS --part k/n` in n processes, process k on GPU k; wait for all.

    PartFailed if one fails; the others then finish first, so their work is kept.
    """
    processes = []
    try:
        for number in range(count):
            environment = dict(os.environ)
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = _visible(number)
            command = [sys.executable, "-m", "harness", *arguments, "--part", f"{number}/{count}"]
            processes.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            )
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    for number, code in enumerate(codes):
        if code:
            raise PartFailed(number, code)


def _visible(number: int) -> str:
    """GPU `number` of those that this process may see."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed.split(",")[number] if listed else str(number)

"""What a run's bits depend on beside its config: the stack and the machine.

Bitwise promises hold within one fingerprint; across fingerprints, comparison is
by tolerance and says so.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.base import cpu_info, kernel_choice, paddle_env

_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "scipy", "scikit-learn", "safetensors",
             "numba", "llvmlite")


def collect(*, world_size: int = 1) -> dict[str, Any]:
    """The fingerprint of this process's stack (imports paddle); flat, JSON values only."""
    import paddle

    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        found[f"package.{package}"] = version(package)
    found["paddle.commit"] = paddle.version.commit
    found["paddle.cuda"] = paddle.version.cuda()
    found["paddle.cudnn"] = paddle.version.cudnn()
    found["device"] = device_name()
    found["driver"] = _driver() if paddle.device.is_compiled_with_cuda() else None
    found["world_size"] = world_size
    found |= kernel_choice.used()
    for name in paddle_env.RECORDED:
        found[f"env.{name}"] = os.environ.get(name)
    return found


def device_name() -> str:
    """The GPU's model name, or the CPU's."""
    import paddle

    if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count():
        return str(paddle.device.cuda.get_device_name())
    return cpu_info.cpu_name()


def version(package: str) -> str | None:
    """Installed version by its metadata (ppdiffusers.__version__ is wrong), or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the harness's own checkout, '+changes' if it is not clean, or None."""
    here = Path(__file__).parent
    try:
        # Installed into somebody else's checkout (its .venv), that one's commit says nothing.
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True,
        timeout=10,
    ).stdout.strip()


def _driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    return text.splitlines()[0].strip()

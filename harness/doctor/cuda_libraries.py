"""Which CUDA libraries Paddle 2.6's GPU build opens here, and where each comes from."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from harness.doctor.findings import Finding

# Paddle opens them by these names, without a version (paddle/phi/backends/dynload).
LIBRARIES = (
    "libcublas.so", "libcudnn.so", "libcufft.so", "libcurand.so", "libcusolver.so",
    "libcusparse.so", "libnccl.so", "libnvrtc.so",
)


def examine(folder: Path | None = None) -> Iterator[Finding]:
    """A finding a library, then whether torch's are kept apart. `folder`: paddle's own."""
    folder = folder or _paddles()
    for name in LIBRARIES:
        linked = folder / name
        try:
            ctypes.CDLL(str(linked) if linked.exists() else name)
        except OSError as error:
            yield Finding(
                "cuda library", "missing", f"{name}: {str(error).removeprefix(f'{name}: ')}",
                "`make install DEVICE=gpu` brings it; with CUDA=system CUDA 11.8, cuDNN 8 and NCCL "
                "have to be on LD_LIBRARY_PATH, by names without a version",
            )
        else:
            whose = "installed" if linked.exists() else "the machine's"
            yield Finding("cuda library", "ok", f"{name}: {whose}, {_loaded_from(name)}")
    yield from _torchs()


def _paddles() -> Path:
    """Where libpaddle.so looks first; without importing paddle, which may not be importable."""
    found = importlib.util.find_spec("paddle")
    return Path(found.origin).parent / "libs" if found and found.origin else Path("nowhere")


def _loaded_from(name: str) -> str:
    """The file that this process has of that library."""
    paths = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if "/" in line}
    return next((path for path in sorted(paths) if Path(path).name.startswith(name)), "unknown")


def _torchs() -> Iterator[Finding]:
    """torch's libraries are packages beside it, for its own process."""
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    mixed = [n for n in sorted(installed) if n.startswith("nvidia-") and n.endswith("-cu11")]
    if mixed:
        yield Finding(
            "torch's cuda", "missing", f"{', '.join(mixed)} write into the folders of torch's "
            "CUDA 12 (libnccl.so.2 is in both)",
            "remove the environment and run `make install DEVICE=gpu`",
        )
    elif "nvidia-cudnn-cu12" in installed:
        named = (f"{name} {installed.get(f'nvidia-{name}-cu12')}" for name in ("cudnn", "nccl"))
        yield Finding("torch's cuda", "ok", f"its own, CUDA 12: {', '.join(named)}")

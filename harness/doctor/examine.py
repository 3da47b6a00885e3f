"""What this machine can run, and what it lacks, each with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from eval.features.inception_weights import weights_path
from harness.base import (
    container_limits,
    cpu_info,
    fingerprint,
    locked_stacks,
    paddle_env,
    processor_time,
)
from harness.doctor import cuda_libraries, gpus, rate, steadiness
from harness.doctor.findings import Finding, noted


def examine() -> list[Finding]:
    """Look at everything; never raises for what is missing."""
    return [
        _python(), _paddle(), *gpus.examine(), *_cuda_libraries(), _evaluation_stack(),
        _inception(), *_data(), _memory(), _disk(), *_speed(),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 10) <= sys.version_info[:2] <= (3, 12)
    return Finding(
        "python", "ok" if good else "missing", version, "" if good else "use Python 3.10 to 3.12"
    )


def _paddle() -> Finding:
    cpu, gpu = fingerprint.version("paddlepaddle"), fingerprint.version("paddlepaddle-gpu")
    if cpu and gpu:
        return Finding(
            "paddle", "missing", "the CPU and the GPU build are both installed and overwrite "
            "each other's files", "remove .venv and run `make install` (DEVICE=gpu for the GPU)",
        )
    if not (cpu or gpu):
        return Finding("paddle", "missing", "not installed", "run `make install`")
    build = f"paddlepaddle-gpu {gpu}" if gpu else f"paddlepaddle {cpu} (CPU)"
    build = f"stack {locked_stacks.label({'package.paddlepaddle': cpu or gpu})}: {build}"
    try:
        paddle_env.require_paddle()
    except Exception as error:  # whatever is wrong, the doctor tells it
        return Finding("paddle", "missing", f"{build}: {error}", "run `make install`")
    return Finding("paddle", "ok", f"{build}, {paddle_env.default_threads()} threads")


def _cuda_libraries() -> Iterator[Finding]:
    # Paddle 3.x declares its CUDA libraries as packages: its wheel brings them.
    if paddle_env.has_gpu_build() and not gpus.is_paddle3():
        yield from cuda_libraries.examine()


def _evaluation_stack() -> Finding:
    packages = ("torch", "torchvision", "pytorch-fid")
    absent = [package for package in packages if not fingerprint.version(package)]
    if absent:
        return Finding("fid", "missing", f"{', '.join(absent)} not installed", "run `make install`")
    versions = ", ".join(f"{package} {fingerprint.version(package)}" for package in packages)
    return Finding("fid", "ok", versions)


def _inception() -> Finding:
    path = weights_path()
    if path.is_file():
        return Finding("inception weights", "ok", str(path))
    return Finding(
        "inception weights", "note", f"{path} is missing: FID of COCO runs cannot be computed",
        "run `harness fetch inception` (--from FILE without a network)",
    )


def _data() -> Iterator[Finding]:
    for name, remedy in (
        ("digits", "make it with `harness data digits data/digits`"),
        ("coco256_features", "get it with `harness data fetch` (151 GB)"),
    ):
        path = Path("data") / name
        present = (path / "train").is_dir() and (path / "empty_context.npy").is_file()
        if present:
            yield Finding(f"data {name}", "ok", str(path), "")
        else:
            yield Finding(f"data {name}", "note", f"{path} is missing", remedy)


def _memory() -> Finding:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    gib = min(pages * size, container_limits.memory()) / 2**30
    return Finding("memory", "ok", f"{gib:.1f} GiB, {container_limits.usable():g} processors")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    good = free >= 5
    return noted(
        "disk", f"{free:.1f} GiB free here",
        "" if good else "a small_deep run with three checkpoints needs 2.8 GiB",
    )


def _speed() -> Iterator[Finding]:
    """The rate of matrix products, which takes a second, and what makes it move."""
    load, before = os.getloadavg()[0], processor_time.ticks()
    yield from _products()
    yield from steadiness.facts(before, load)


def _products() -> Iterator[Finding]:
    try:
        paddle_env.require_paddle()
        import paddle

        if paddle.device.get_device().startswith("gpu"):
            return  # the CPU's rate is not what training has there
        each = rate.best([rate.SHAPE], repeats=50, clock=time.process_time)
    except Exception:
        return  # said above
    remedy = rate.remedy(cpu_info.cpu(), each)
    path = cpu_info.mkl_path(os.environ.get("MKL_DEBUG_CPU_TYPE"))
    yield noted("matrix products", f"{each / 1e9:.0f} GFLOP/s a core, by {path}", remedy)

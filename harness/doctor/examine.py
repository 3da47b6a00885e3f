"""What this machine can run, and what it lacks, each with its remedy."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.features.inception import weights_path
from harness.base import container_limits, cpu_info, fingerprint, paddle_env, stacks
from harness.doctor import rate, steadiness

# Machine code in paddlepaddle-gpu 2.6.2's library (read with cuobjdump; it has no PTX, so
# nothing newer can be compiled from it). A GPU runs code of its own major version with an
# equal or lower minor one.
BUILT_FOR = ((6, 1), (7, 0), (7, 5), (8, 0), (8, 6))
CUDA_LIBRARIES = ("libcudart.so.11.0", "libcublas.so.11", "libcudnn.so.8")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `status` is ok, note (works without it) or missing."""

    what: str
    status: str
    detail: str
    remedy: str = ""

    @property
    def name(self) -> str:
        """What a summary calls it: libraries share their `what`, the detail begins with theirs."""
        return self.detail.partition(":")[0] if self.what == "cuda library" else self.what

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; never raises for what is missing."""
    return [
        _python(), _paddle(), *_gpus(), *_cuda_libraries(), _evaluation_stack(), _inception(),
        *_data(), _memory(), _disk(), *_speed(),
    ]


def runs_code_for(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability can run paddlepaddle-gpu 2.6.2."""
    return any(major == capability[0] and minor <= capability[1] for major, minor in BUILT_FOR)


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
    build = f"stack {stacks.label({'package.paddlepaddle': cpu or gpu})}: {build}"
    try:
        paddle_env.require_paddle()
    except Exception as error:  # whatever is wrong, the doctor tells it
        return Finding("paddle", "missing", f"{build}: {error}", "run `make install`")
    return Finding("paddle", "ok", f"{build}, {paddle_env.default_threads()} threads")


def _gpus() -> Iterator[Finding]:
    found = query_gpus()
    if not found:
        yield Finding(
            "gpu", "note", "none found", "training runs on the CPU; half precision needs a GPU"
        )
    for name, capability in found:
        text = f"{name}, compute capability {capability[0]}.{capability[1]}"
        wheel = stacks.gpu_wheel(capability)
        newer = "`make install STACK=paddle3 DEVICE=gpu PADDLE_INDEX=...`, Paddle's " + (
            wheel or "folder with code for it, which is not known here"
        )
        if _is_paddle3():
            if paddle_env.has_gpu_build():
                yield _paddle3_on(text, wheel)
            else:
                yield Finding("gpu", "note", f"{text}: paddle's CPU build does not use it", newer)
        elif not runs_code_for(capability):
            yield Finding(
                "gpu", "missing", f"{text}: paddlepaddle-gpu 2.6.2 has no code for it (it has "
                + ", ".join(f"{a}.{b}" for a, b in BUILT_FOR) + ")",
                newer if wheel else "use a V100, T4, A100 or RTX 20/30/40, or the CPU build",
            )
        elif not paddle_env.has_gpu_build():
            yield Finding("gpu", "note", f"{text}: paddle's CPU build does not use it",
                          "run `make install DEVICE=gpu`")
        else:
            yield Finding("gpu", "ok", text)


def _paddle3_on(gpu: str, wheel: str | None) -> Finding:
    """`ok` only where the build that is installed is one that is said to have code for the GPU."""
    build = _cuda_build()
    if wheel and build in wheel.split(" or "):
        return Finding("gpu", "ok", f"{gpu}; {build} is said to have code for it (not tried)")
    return Finding(
        "gpu", "note", f"{gpu}: whether this build ({build or 'of an unknown CUDA'}) has code for "
        "it is not known here",
        f"Paddle's {wheel} is said to have" if wheel
        else "try a few steps: `harness train digits_tiny --until 5`",
    )


def _cuda_build() -> str:
    """`cu126`: the CUDA of the wheel of paddle that is installed; empty where it is not told."""
    local = (fingerprint.version("paddlepaddle-gpu") or "").partition("+")[2]
    if local:
        return local
    try:
        from paddle import version

        cuda = str(version.cuda())
    except Exception:  # whatever is wrong with paddle, `_paddle` has told it
        return ""
    return f"cu{cuda.replace('.', '')}" if cuda[:1].isdigit() else ""


def _is_paddle3() -> bool:
    version = fingerprint.version("paddlepaddle-gpu") or fingerprint.version("paddlepaddle") or ""
    return version.startswith("3.")


def query_gpus() -> list[tuple[str, tuple[int, int]]]:
    """(name, compute capability) of each GPU that nvidia-smi lists; [] without a driver."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(out)


def parse_gpus(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Lines like 'NVIDIA A100-SXM4-80GB, 8.0'."""
    found = []
    for line in text.splitlines():
        name, _, capability = line.rpartition(",")
        major, _, minor = capability.strip().partition(".")
        if name and major.isdigit() and minor.isdigit():
            found.append((name.strip(), (int(major), int(minor))))
    return found


def _cuda_libraries() -> Iterator[Finding]:
    # Paddle 3.x declares its CUDA libraries as packages: its wheel brings them.
    if not paddle_env.has_gpu_build() or _is_paddle3():
        return
    for library in CUDA_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError as error:
            yield Finding(
                "cuda library", "missing", str(error), "install CUDA 11.8 and cuDNN 8 and put "
                "their folders on LD_LIBRARY_PATH; the wheel brings neither",
            )
        else:
            yield Finding("cuda library", "ok", library)


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
    return Finding(
        "disk", "ok" if good else "note", f"{free:.1f} GiB free here",
        "" if good else "a small_deep run with three checkpoints needs 2.8 GiB",
    )


def _speed() -> Iterator[Finding]:
    """The rate of matrix products, which takes a second, and what makes it move."""
    load, before = os.getloadavg()[0], steadiness.ticks()
    yield from _products()
    for fact in steadiness.facts(before, load):
        yield Finding(fact.what, "note" if fact.remedy else "ok", fact.detail, fact.remedy)


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
    yield Finding(
        "matrix products", "note" if remedy else "ok",
        f"{each / 1e9:.0f} GFLOP/s a core, by {path}", remedy,
    )

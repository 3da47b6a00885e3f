"""What must be set before paddle is imported, in one place.

Paddle reads its flags and the thread count once, when it loads; both change the
bits of a result, so they are the harness's to set and belong in the fingerprint.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

from harness.base import container_limits, cpu_info, kernel_choice
from harness.base.errors import EnvironmentFault

# Stride kernels turn transposes into views that every consumer then copies
# slowly: the same bits, 1.8 times the time on CPU (paddle 2.6.2).
_ALWAYS = {
    "FLAGS_use_stride_kernel": "0",
    # ppdiffusers imports torch when it finds it: 300 MB and a second CUDA.
    "USE_TORCH": "0",
    "USE_TF": "0",
    "USE_FLAX": "0",
    # Nothing here may reach for a model hub behind the user's back.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GLOG_minloglevel": "2",
    # Threads that paddle's products are done with sleep at once. By default they spin for 200 ms,
    # on cores that the threads of models.cpu.row_threads are meant to have: 2.4 s a step in place
    # of 2.1.
    "KMP_BLOCKTIME": "0",
}
# Folders that paddlenlp, and ppdiffusers for huggingface_hub, make when they are imported; the
# first one fails where it cannot, the other one says so. Nothing of ours reads or writes there.
_MADE_ON_IMPORT = {
    "PPNLP_HOME": "~/.paddlenlp",
    "HF_HOME": os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"),
}
_DETERMINISTIC_GPU = {
    "FLAGS_cudnn_deterministic": "1",
    "FLAGS_embedding_deterministic": "1",
    "FLAGS_cudnn_exhaustive_search": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
}
# Environment variables that change the bits of a result: part of the fingerprint.
RECORDED = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "FLAGS_use_stride_kernel",
    "FLAGS_use_mkldnn",
    *_DETERMINISTIC_GPU,
)


def default_threads() -> int:
    """Cores this process may use, capped: more than 16 do not help the CPU kernels.

    A container's share of the processors counts in whole ones.
    """
    return max(1, int(min(16, container_limits.usable())))


def prepare(
    *, threads: int | None = None, recorded: int | None = None, deterministic: bool = True
) -> None:
    """Set the environment that paddle reads when it loads. Call before importing it.

    `threads`: OMP threads; default OMP_NUM_THREADS, else `recorded` (those of the run
    that is continued or checked), else the cores at hand (1 and 2 threads differ in the
    last bits, so the number is fixed and recorded).
    `deterministic`: choose deterministic GPU kernels.
    A value that the user exported wins, except the thread count asked for here.
    EnvironmentFault if neither HOME nor a place for temporary files can be written.
    """
    keep_freed_memory()
    # paddlenlp says of each file where it was saved. A filter stays when it sets its level.
    logging.getLogger("PaddleNLP").addFilter(_worth_saying)
    # paddlenlp imports distutils before setuptools; nothing a user could do about it.
    warnings.filterwarnings("ignore", message="Setuptools is replacing distutils")
    if "paddle" in sys.modules:
        return
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(recorded or default_threads()))
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)
    for name, usual in _MADE_ON_IMPORT.items():
        if name not in os.environ and not _can_be_made(os.path.expanduser(usual)):
            os.environ[name] = os.path.join(_own_temporary_folder(), name)
    if path := cpu_info.mkl_cpu_type(cpu_info.cpu()):
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", path)
    if deterministic and has_gpu_build():
        for name, value in _DETERMINISTIC_GPU.items():
            os.environ.setdefault(name, value)


def _can_be_made(folder: str) -> bool:
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    return os.access(there, os.W_OK | os.X_OK)


def _own_temporary_folder() -> str:
    """One for all processes of this user; what somebody else laid there is not used."""
    try:
        folder = os.path.join(tempfile.gettempdir(), f"harness-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    except OSError as error:
        raise EnvironmentFault(
            f"neither HOME nor a place for temporary files can be written: {error.strerror}",
            remedy="set TMPDIR to a folder that can be",
        ) from error
    return folder if os.lstat(folder).st_uid == os.getuid() else tempfile.mkdtemp()


def _worth_saying(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation: the same bits, in less time.

    For the whole process, torch's as much as paddle's.

    By default it gives large blocks back to the kernel at once, and paddle's CPU allocator asks
    anew for every tensor: the attention scores of one block cost 3,500 page faults, which took
    longer than computing them (8.6 ms against 1.1 ms for a copy of 14 MB).
    """
    import ctypes

    trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1  # numbers from malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, with ways of its own
    # glibc before 2.35 refuses more than 32 MiB
    _ = mallopt(mmap_threshold, most) or mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, most)


def has_gpu_build() -> bool:
    """Whether the installed paddle is the GPU build, without importing it.

    A CPU build refuses the cuDNN flags with a ValueError when it loads.
    """
    from importlib import metadata

    try:
        metadata.version("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def require_paddle(*, deterministic: bool = True, recorded: int | None = None) -> None:
    """Prepare (see there), then import paddle, or say in one line why it cannot be imported.

    EnvironmentFault too for kernels that are asked for and not there.
    """
    prepare(deterministic=deterministic, recorded=recorded)
    try:
        # Paddle warns on stderr of every OMP_NUM_THREADS above 1; ours is meant.
        with _signals_held(), contextlib.redirect_stderr(io.StringIO()):
            # First: libpaddle.so has a zlib of its own, which the system's would call parts of if
            # it came later; Pillow then crashes when it writes a PNG.
            import zlib  # noqa: F401

            import paddle  # noqa: F401

            _take_signals_back()
    except ImportError as error:
        raise EnvironmentFault(
            f"paddle cannot be imported: {error}",
            remedy="install it with `make install` (or `pip install 'uvit-harness[cpu]'`); "
            "`harness doctor` tells more",
        ) from error
    kernel_choice.require()


def _take_signals_back() -> None:
    """Have signals do what Python set them to do, from here on and for good.

    Paddle handles SIGTERM and crashes itself: it prints a stack from inside the handler, which
    allocates and so can wait for ever. paddlenlp (and so ppdiffusers) has paddle drop its handlers
    when it is imported, which gives SIGTERM back to the kernel's default whatever handler was set
    meanwhile, while Python goes on naming that one. So they are dropped now, and never again.
    """
    import paddle

    paddle.disable_signal_handler()
    paddle.disable_signal_handler = lambda: None
    if threading.current_thread() is threading.main_thread():
        former = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: inside an import they come out as any error at all."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)

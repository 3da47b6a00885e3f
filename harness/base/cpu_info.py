"""What CPU this process computes on, and which of its instructions paddle's products may use.

Reads the kernel's description only: usable before anything heavy is imported.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}
AVX2 = {"avx2", "fma"}


@dataclass(frozen=True)
class Cpu:
    """The first processor of /proc/cpuinfo; empty fields where the kernel does not tell."""

    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()
    mhz: float = 0.0  # as the kernel tells it: the clock of now, or of a virtual machine's counter


def cpu(description: str | None = None) -> Cpu:
    """This machine's CPU, or the one that a text in /proc/cpuinfo's format describes."""
    if description is None:
        try:
            description = _CPUINFO.read_text(errors="replace")
        except OSError:
            return Cpu(model=platform.processor())
    first = description.strip().split("\n\n")[0]
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in first.splitlines())
    }
    return Cpu(
        fields.get("vendor_id", ""), fields.get("model name", ""),
        frozenset(fields.get("flags", "").split()), _number(fields.get("cpu MHz", "")),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def cpu_name() -> str:
    """The CPU's model and the vector extensions that choose MKL's kernels."""
    found = cpu()
    vector = next(
        (f for f in ("amx_tile", "avx512f", "avx2", "avx") if f in found.flags), "no vectors"
    )
    return f"{found.model or 'unknown'} ({vector})"


def mkl_cpu_type(found: Cpu) -> str | None:
    """The value of MKL_DEBUG_CPU_TYPE that lets paddle's MKL use what `found` can do, or None.

    Paddle (2.6 to 3.3) brings an MKL of 2019, which looks at the vendor before the instructions:
    on any CPU but Intel's it takes its generic SSE path, a quarter of the speed (77 to 89 GFLOP/s
    against 295 to 470 on a Zen 5). The variable, which MKL reads when it loads, names the path:
    5 is AVX2, 7 is AVX-512. MKL from 2020.1 on and other libraries ignore it.
    """
    if found.vendor in ("", "GenuineIntel"):
        return None
    if found.flags >= _AVX512:
        return "7"
    return "5" if found.flags >= AVX2 else None


def mkl_path(value: str | None) -> str:
    """The instructions that a value of MKL_DEBUG_CPU_TYPE stands for, in words."""
    names = {"4": "AVX", "5": "AVX2", "6": "AVX-512 (Knights Landing's)", "7": "AVX-512"}
    if not value:
        return "the library's own choice of instructions"
    return f"MKL's {names.get(value, 'generic')} path (MKL_DEBUG_CPU_TYPE={value})"

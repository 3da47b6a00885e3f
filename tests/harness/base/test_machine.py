"""Which path of MKL is chosen for which CPU, and that it is taken."""

import subprocess
import sys

import pytest

from harness.base import machine
from tests.command import environment

_AVX2 = "fpu sse sse2 avx fma avx2"
_ZEN4 = _AVX2 + " avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16"
CPUS = {
    "Intel with AMX": ("GenuineIntel", _ZEN4 + " amx_tile amx_bf16", None),
    "Zen 2": ("AuthenticAMD", _AVX2, "5"),
    "Zen 4 and 5": ("AuthenticAMD", _ZEN4, "7"),
    "AVX-512 without VL": ("AuthenticAMD", _ZEN4.replace(" avx512vl", ""), "5"),
    "AVX2 without FMA": ("AuthenticAMD", "fpu sse sse2 avx avx2", None),
    "another vendor": ("HygonGenuine", _AVX2, "5"),
    "no flags": ("AuthenticAMD", "", None),
}


def described(vendor, flags):
    one = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Some CPU\nflags\t\t: {flags}\n"
    return f"{one}\n{one}"


@pytest.mark.parametrize("vendor, flags, chosen", CPUS.values(), ids=CPUS)
def test_the_path_follows_vendor_and_instructions(vendor, flags, chosen):
    assert machine.mkl_cpu_type(machine.cpu(described(vendor, flags))) == chosen


@pytest.mark.parametrize("text", ["", "\0\xff", "flags", "CPU implementer\t: 0x41\nFeatures\t: fp"])
def test_of_an_unreadable_description_nothing_is_chosen(text):
    assert machine.mkl_cpu_type(machine.cpu(text)) is None


def test_without_a_description_nothing_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.mkl_cpu_type(machine.cpu()) is None
    assert machine.cpu_name().endswith("(no vectors)")


_RECORDED = """
from harness.base import environment, fingerprint
environment.require_paddle()
print(fingerprint.collect()["env.MKL_DEBUG_CPU_TYPE"])
"""


def test_what_the_user_exported_wins_and_is_in_the_fingerprint():
    given = environment() | {"MKL_DEBUG_CPU_TYPE": "4"}
    done = subprocess.run(
        [sys.executable, "-c", _RECORDED], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "4"


def test_what_is_chosen_is_in_the_fingerprint():
    given = {k: v for k, v in environment().items() if k != "MKL_DEBUG_CPU_TYPE"}
    done = subprocess.run(
        [sys.executable, "-c", _RECORDED], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(machine.mkl_cpu_type(machine.cpu()))


_RATE = """
import time
from harness.base import environment
environment.prepare(threads=1)
import paddle
a, b = paddle.rand([668, 512]), paddle.rand([512, 1536])
best = 9.0
for _ in range(30):
    start = time.perf_counter()
    paddle.matmul(a, b)
    best = min(best, time.perf_counter() - start)
print(2 * 668 * 512 * 1536 / best)
"""


@pytest.mark.skipif(
    machine.mkl_cpu_type(machine.cpu()) is None, reason="MKL takes this CPU's best path by itself"
)
def test_the_path_is_really_taken():
    """A ratio of rates, not a time: 2.3 to 5 on Zen 4 and 5, so 1.5 leaves a wide margin."""

    def rate(**variables):
        given = {k: v for k, v in environment().items() if k != "MKL_DEBUG_CPU_TYPE"} | variables
        return float(subprocess.run(
            [sys.executable, "-c", _RATE], env=given, capture_output=True, text=True, check=True
        ).stdout)

    assert rate() > 1.5 * rate(MKL_DEBUG_CPU_TYPE="0")

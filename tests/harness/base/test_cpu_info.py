"""Which path of MKL is chosen for which CPU, and that it is taken."""

import subprocess
import sys

import pytest

from harness.base import cpu_info
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
    assert cpu_info.mkl_cpu_type(cpu_info.cpu(described(vendor, flags))) == chosen


@pytest.mark.parametrize("text", ["", "\0\xff", "flags", "CPU implementer\t: 0x41\nFeatures\t: fp"])
def test_of_an_unreadable_description_nothing_is_chosen(text):
    assert cpu_info.mkl_cpu_type(cpu_info.cpu(text)) is None


def test_without_a_description_nothing_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_info, "_CPUINFO", tmp_path / "none")
    assert cpu_info.mkl_cpu_type(cpu_info.cpu()) is None
    assert cpu_info.cpu_name().endswith("(no vectors)")


def test_the_clock_is_read_where_it_is_told():
    assert cpu_info.cpu("cpu MHz\t\t: 2596.140\n").mhz == 2596.14
    assert cpu_info.cpu("cpu MHz\t\t: fast\n").mhz == cpu_info.cpu("").mhz == 0.0


@pytest.mark.parametrize(("value", "words"), [
    (None, "the library's own choice"), ("", "the library's own choice"), ("5", "AVX2 path"),
    ("7", "AVX-512 path"), ("0", "generic path"),
])
def test_a_path_has_a_name(value, words):
    assert words in cpu_info.mkl_path(value)


_RECORDED = """
from harness.base import paddle_env, fingerprint
paddle_env.require_paddle()
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
    assert done.stdout.strip() == str(cpu_info.mkl_cpu_type(cpu_info.cpu()))


_RATE = """
import time
from harness.base import paddle_env
paddle_env.prepare(threads=1)
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
    cpu_info.mkl_cpu_type(cpu_info.cpu()) is None, reason="MKL takes this CPU's best path by itself"
)
def test_the_path_is_really_taken():
    """A ratio of rates, not a time: 2.3 to 5 on Zen 4 and 5, so 1.5 leaves a wide margin."""

    def rate(**variables):
        given = {k: v for k, v in environment().items() if k != "MKL_DEBUG_CPU_TYPE"} | variables
        return float(subprocess.run(
            [sys.executable, "-c", _RATE], env=given, capture_output=True, text=True, check=True
        ).stdout)

    assert rate() > 1.5 * rate(MKL_DEBUG_CPU_TYPE="0")

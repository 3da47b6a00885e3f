"""When a rate of matrix products is called slow, and what is said to be done."""

import pytest

from harness.base.cpu_info import AVX2, Cpu
from harness.doctor import rate

ZEN4 = Cpu("AuthenticAMD", "AMD EPYC", frozenset(AVX2), mhz=2600.0)
# GFLOP/s a core as measured on Zen 4, by MKL's paths
GENERIC, AVX, BEST = 40e9, 77e9, 104e9


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in rate._LIMITS:
        monkeypatch.delenv(name, raising=False)


def test_the_generic_path_is_slow_and_the_others_are_not():
    assert rate.remedy(ZEN4, GENERIC)
    assert not rate.remedy(ZEN4, AVX) and not rate.remedy(ZEN4, BEST)


@pytest.mark.parametrize(("name", "value"), [
    ("MKL_DEBUG_CPU_TYPE", "0"), ("MKL_DEBUG_CPU_TYPE", ""), ("MKL_CBWR", "COMPATIBLE"),
])
def test_the_variable_that_keeps_it_slow_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert f"unset {name}" in rate.remedy(ZEN4, GENERIC)


def test_the_path_that_the_harness_chose_is_not_blamed(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    assert "unset" not in rate.remedy(ZEN4, GENERIC) and "load" in rate.remedy(ZEN4, GENERIC)


@pytest.mark.parametrize("cpu", [
    Cpu(), Cpu("GenuineIntel", flags=frozenset(AVX2)), Cpu("AuthenticAMD", mhz=2600.0),
])
def test_of_an_unknown_cpu_nothing_is_expected(cpu):
    assert rate.expected(cpu) is None and rate.remedy(cpu, 1.0) == ""

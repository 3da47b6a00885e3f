"""What makes figures move is read from files as the kernel writes them."""

import pytest

from harness.base import processor_time
from harness.doctor import steadiness

CPUS = "sys/devices/system/cpu"
STEADY = {
    f"{CPUS}/cpu0/cpufreq/scaling_governor": "performance\n", f"{CPUS}/cpufreq/boost": "0\n",
    f"{CPUS}/smt/active": "0\n", "proc/stat": "cpu  100 0 100 700 0 0 0 100 0 0\nintr 1\n",
}


BEFORE = processor_time.Ticks(all=1000, stolen=100)


def told(folder, changes, *, load=0.0):
    """The facts by name where the kernel's files are STEADY, but for `changes`; None: no file."""
    for name, text in {**STEADY, **changes}.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return {fact.what: fact for fact in steadiness.facts(BEFORE, load, folder)}


def test_of_a_steady_machine_nothing_needs_a_remedy(tmp_path):
    found = told(tmp_path, {})
    assert list(found) == ["governor", "turbo", "smt", "load", "quota", "stolen time"]
    assert not any(fact.remedy for fact in found.values())


MOVING = {
    "governor": ({f"{CPUS}/cpu0/cpufreq/scaling_governor": "powersave\n"}, "cpupower"),
    "turbo": ({f"{CPUS}/cpufreq/boost": "1\n"}, "echo 0"),
    "turbo, Intel's": ({f"{CPUS}/intel_pstate/no_turbo": "0\n"}, "echo 1"),
    "smt": ({f"{CPUS}/smt/active": "1\n"}, "OMP_NUM_THREADS"),
    "quota": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        "OMP_NUM_THREADS",
    ),
    "stolen time": ({"proc/stat": "cpu  180 0 100 700 0 0 0 120 0 0\n"}, "the host"),
}


@pytest.mark.parametrize("changes, remedy", MOVING.values(), ids=MOVING)
def test_what_moves_figures_is_named_with_its_remedy(tmp_path, changes, remedy):
    (only,) = (fact for fact in told(tmp_path, changes).values() if fact.remedy)
    assert remedy in only.remedy


def test_others_that_keep_the_processors_are_seen(tmp_path):
    assert told(tmp_path, {}, load=999.0)["load"].remedy


def test_a_kernel_that_tells_nothing_is_said_so(tmp_path):
    found = told(tmp_path, dict.fromkeys(STEADY))
    others = found.keys() - {"load", "quota"}
    assert all("not told" in found[what].detail for what in others)
    assert not any(fact.remedy for fact in found.values())
    assert processor_time.ticks(tmp_path) == processor_time.Ticks()


def test_torn_files_are_no_error(tmp_path):
    torn = {name: "\x00nonsense" for name in STEADY}
    assert len(told(tmp_path, {**torn, "proc/stat": "cpu  1 x"})) == 6

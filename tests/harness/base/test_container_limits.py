"""Limits of containers, out of fabricated trees of cgroups."""

import math

import pytest

from harness.base import container_limits, paddle_env
from harness.doctor import examine


def _tree(root, cgroup, files):
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2 = "sys/fs/cgroup/"
CASES = {
    "none": ("0::/", {}, math.inf, math.inf),
    "v2, no limit": ("0::/", {V2 + "cpu.max": "max 100000", V2 + "memory.max": "max"},
                     math.inf, math.inf),
    "v2, the mount's root": ("0::/", {V2 + "cpu.max": "150000 100000", V2 + "memory.max": "4096"},
                             1.5, 4096),
    "v2, the parent is tighter": ("0::/a/b", {
        V2 + "a/cpu.max": "200000 100000", V2 + "a/b/cpu.max": "800000 100000",
        V2 + "a/memory.max": "1000", V2 + "a/b/memory.max": "max"}, 2, 1000),
    "v1, a host's path": ("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/", {
        V2 + "cpu,cpuacct/cpu.cfs_quota_us": "300000",
        V2 + "cpu,cpuacct/cpu.cfs_period_us": "100000",
        V2 + "memory/memory.limit_in_bytes": "5000"}, 3, 5000),
    "v1, no limit": ("5:cpu:/", {V2 + "cpu/cpu.cfs_quota_us": "-1",
                                 V2 + "cpu/cpu.cfs_period_us": "100000"}, math.inf, math.inf),
    "nonsense": ("0::/", {V2 + "cpu.max": "a 0", V2 + "memory.max": ""}, math.inf, math.inf),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tightest_limit_counts(case, tmp_path):
    cgroup, files, cores, size = CASES[case]
    root = _tree(tmp_path, cgroup, files)
    assert (container_limits.processors(root), container_limits.memory(root)) == (cores, size)


def test_threads_and_doctor_obey(monkeypatch):
    monkeypatch.setattr(paddle_env.os, "sched_getaffinity", lambda _: set(range(8)))
    for granted, threads in ((math.inf, 8), (2.5, 2), (0.5, 1)):
        monkeypatch.setattr(container_limits, "processors", lambda granted=granted: granted)
        assert paddle_env.default_threads() == threads
    monkeypatch.setattr(container_limits, "memory", lambda: 2**29)
    assert examine._memory().detail.startswith("0.5 GiB")

"""What a card and a machine did while a run trained: from a stand-in, and from real load."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from harness.base import nvml
from harness.distributed.process_group import World
from harness.training import machine_conditions, train
from tests import file_schemas
from tests.fixtures import tiny_config
from tests.nvml_stand_in import Nvml


def reader(**answers):
    return machine_conditions.CardReader(nvml.driver(Nvml(answers)).cards[0])


def test_a_sound_card_is_neither_throttled_nor_shared():
    assert reader(ComputeRunningProcesses=["this"])() == {
        "throttled_share": 0.0, "throttled_heat_share": 0.0, "power_capped_share": 0.0,
        "others_share": 0.0, "watts": 300.0, "sm_mhz": 1410.0, "celsius": 50.0, "ecc_errors": 0.0,
    }


@pytest.mark.parametrize(("answers", "key", "value"), [
    ({"CurrentClocksThrottleReasons": 0x40}, "throttled_heat_share", 1.0),
    ({"CurrentClocksThrottleReasons": 0x80}, "throttled_share", 1.0),
    ({"CurrentClocksThrottleReasons": 0x4}, "power_capped_share", 1.0),
    ({"CurrentClocksThrottleReasons": 0x4}, "throttled_share", 0.0),  # usual under load
    ({"CurrentClocksThrottleReasons": 0x1 | 0x2}, "throttled_share", 0.0),  # idle, clocks as set
    ({"ComputeRunningProcesses": ["this", "another"]}, "others_share", 1.0),
    ({"ComputeRunningProcesses": []}, "others_share", 0.0),  # a container's driver may hide them
])
def test_what_happens_to_a_card_is_told(answers, key, value):
    assert reader(**answers)()[key] == value


def test_memory_errors_count_from_the_beginning_and_what_is_not_told_is_left_out():
    errors = iter((3, 5))
    assert reader(TotalEccErrors=lambda *_: next(errors))()["ecc_errors"] == 2
    silent = dict.fromkeys(Nvml({}).cards[0])
    assert reader(**silent)().keys() == {
        "throttled_share", "throttled_heat_share", "power_capped_share"}


def test_processors_time_is_told_from_the_kernels_counters(tmp_path, monkeypatch):
    def write(busy, idle, stolen, periods, throttled):
        for name, text in {
            "proc/stat": f"cpu0 {busy} 0 0 {idle} 0 0 0 {stolen} 0 0\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.stat": f"nr_periods {periods}\nnr_throttled {throttled}\n",
        }.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(machine_conditions, "time", SimpleNamespace(process_time=lambda: spent))
    spent = 0.0
    write(1000, 1000, 0, 100, 10)
    read = machine_conditions.ProcessorReader(tmp_path)
    assert read() == {}  # no time has gone by
    spent = 30 / os.sysconf("SC_CLK_TCK")
    write(1080, 1010, 10, 110, 15)
    assert read() == pytest.approx(
        {"own_share": 0.3, "busy_share": 0.8, "stolen_share": 0.1, "throttled_share": 0.5})


@pytest.fixture
def busy():
    """Another process that keeps one of this process's processors; gives that one."""
    processor = min(os.sched_getaffinity(0))
    script = f"import os; os.sched_setaffinity(0, {{{processor}}}); print(flush=True)\nwhile 1: 0"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield processor
    process.kill()
    process.wait()


def test_real_load_of_another_process_is_others_and_ones_own_is_not(busy, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {busy})
    read = machine_conditions.ProcessorReader()
    while not (sample := read()):
        threading.Event().wait(0.02)
    assert machine_conditions.of_job(sample, World.alone())["others_share"] > 0.5
    assert sample["own_share"] < 0.5


def test_pauses_are_left_out_and_a_lap_starts_anew(monkeypatch):
    monkeypatch.setattr(machine_conditions, "EVERY", 0.001)
    read = threading.Event()
    state = SimpleNamespace(paused=0.0, pausing=True)

    def sample():
        read.set()
        return {"watts": 100.0, "celsius": 70.0}

    def paused():
        state.paused += state.pausing
        return state.paused

    watch = machine_conditions.Watch(sample, paused)
    for _ in range(3):
        read.clear()
        read.wait()
    assert watch.lap() == {}
    state.pausing = False
    while not (found := watch.lap()):
        read.wait()
    watch.close()
    assert found == {"watts": 100.0, "celsius": 70.0}
    watch.lap()
    assert watch.lap() == {} and not watch._thread.is_alive()


@dataclass
class Job(World):
    """A world whose other processes have told theirs; a row a process."""

    rows: list = field(default_factory=list)

    def gather(self, values):
        return [np.asarray(values, float), *self.rows]


def test_a_jobs_figure_is_the_worst_devices_and_its_power_the_sum():
    keys = list(machine_conditions._OF_JOB)
    other = {"watts": 250.0, "throttled_share": 0.5, "sm_mhz": 900.0}
    row = [7.0, *(other.get(key, np.nan) for key in keys), np.nan, np.nan]
    found = machine_conditions.of_job(
        {"watts": 300.0, "throttled_share": 0.0, "sm_mhz": 1410.0, "celsius": 60.0},
        Job(size=2, rows=[row]),
    )
    assert found == {"watts": 550.0, "throttled_share": 0.5, "sm_mhz": 900.0}


@pytest.mark.parametrize(("where", "others"), [("here", 0.1), ("elsewhere", 0.5)])
def test_workers_on_the_same_processors_are_no_others(where, others):
    at = machine_conditions._processors() + (where == "elsewhere")
    row = [at, *(np.nan for _ in machine_conditions._OF_JOB), 0.9, 0.4]
    own = {"busy_share": 0.9, "own_share": 0.4}
    found = machine_conditions.of_job(own, Job(size=2, rows=[row]))
    assert found["others_share"] == pytest.approx(others)


def test_a_run_on_a_throttled_card_says_so_in_its_timings(features, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_conditions, "EVERY", 0.001)
    throttled = reader(CurrentClocksThrottleReasons=0x20)
    monkeypatch.setattr(machine_conditions, "here", lambda: throttled)
    config = tiny_config("train.max_steps=30", "train.log_steps=10")
    run = train.train(train.Plan(config, 1, tmp_path / "run", features, 0))
    told = [line for line in run.timing() if "watts" in line]
    assert told and all(line["throttled_share"] == 1.0 for line in told)
    assert all(line["watts"] == 300.0 for line in told)
    assert not any("watts" in line for line in run.metrics())
    file_schemas.check(run.timing_file)
    assert not any(thread.name == "conditions" for thread in threading.enumerate())


def test_a_run_beside_real_load_tells_it(busy, features, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_conditions, "EVERY", 0.05)
    monkeypatch.setattr(machine_conditions, "_MOST_PAUSED", 1.0)
    config = tiny_config("train.max_steps=200", "train.log_steps=20", "train.save_steps=1000")
    run = train.train(train.Plan(config, 1, tmp_path / "run", features, 0))
    told = [line["others_share"] for line in run.timing() if "others_share" in line]
    assert told and max(told) > 0.2 and all(0 <= share <= 1 for share in told)

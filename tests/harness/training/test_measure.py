"""Arithmetic of the chrono, on a clock that the test sets: nothing here depends on real time."""

import subprocess
import sys

import pytest

from harness.training import measure
from tests.command import environment


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture()
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", clock)
    return clock


def run_steps(chrono, clock, seconds, wait=0.0):
    for length in seconds:
        with chrono.waiting():
            clock.now += wait
        clock.now += length - wait
        chrono.step_done()


def test_warm_up_steps_are_not_timed(clock):
    chrono = measure.Chrono(10)
    run_steps(chrono, clock, [100.0] * measure.WARMUP_STEPS + [2.0, 2.0], wait=0.5)
    lap = chrono.lap()
    assert lap["steps_timed"] == 2
    assert lap["images_per_second"] == pytest.approx(5.0)
    assert lap["step_ms"] == pytest.approx(2000.0)
    assert lap["data_wait_share"] == pytest.approx(0.25)
    assert lap["seconds"] == pytest.approx(4.0)


def test_pauses_are_not_training(clock):
    chrono = measure.Chrono(10)
    run_steps(chrono, clock, [1.0] * measure.WARMUP_STEPS)
    with chrono.pause():
        clock.now += 1000.0
    run_steps(chrono, clock, [1.0, 1.0])
    assert chrono.lap()["images_per_second"] == pytest.approx(10.0)


def test_a_lap_starts_anew_and_may_be_empty(clock):
    chrono = measure.Chrono(10)
    run_steps(chrono, clock, [1.0] * (measure.WARMUP_STEPS + 1))
    assert chrono.lap()["steps_timed"] == 1
    assert chrono.lap()["images_per_second"] is None


def test_p95_is_a_slow_step(clock):
    chrono = measure.Chrono(1)
    run_steps(chrono, clock, [1.0] * measure.WARMUP_STEPS + [1.0] * 18 + [9.0] * 2)
    lap = chrono.lap()
    assert lap["step_ms"] == pytest.approx(1000.0)
    assert lap["step_ms_p95"] == pytest.approx(9000.0)


def test_memory_is_counted_in_bytes():
    """In a process of its own: a peak that other tests have left could hide this one."""
    code = (
        "from harness.training import measure\n"
        "before = measure.peak_host_bytes()\n"
        "block = bytearray(200 << 20)\n"
        "print(measure.peak_host_bytes() - before)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert 190 << 20 < int(process.stdout) < 230 << 20


def test_device_memory_is_none_on_a_cpu():
    import paddle

    found = measure.peak_device_bytes()
    assert found is None if paddle.device.get_device() == "cpu" else found >= 0

"""Cells beside each other: stopped and killed to the same bits, one's failure is nobody else's."""

import json
import signal
import time
from dataclasses import replace

import pytest

from harness.base import container_limits
from harness.base.errors import UsageError
from harness.cells import run_cells as cells
from harness.studies import one_cell, study_directory, study_file, study_run
from tests.command import assert_one_line_error, harness, start
from tests.harness.studies.made import bits, failing, write_study


def until(met, seconds=120):
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(container_limits.usable() < 2, reason="two cells need two processors")
def test_killed_and_stopped_two_at_a_time_a_study_has_the_bits_of_one_by_one(features, tmp_path):
    """And a stack that fails is retried, then reported; the others go on."""
    bad = failing(tmp_path)
    path = write_study(
        tmp_path, "[stacks]", f'bad = "{bad}"', 'here = ""', "[variants]",
        'long = ["train.max_steps=100", "train.save_steps=30"]', steps=100,
    )
    out = tmp_path / "out"
    command = ("study", "run", path, "-o", out, "--data", features, "--jobs", 2, "--retries", 1)
    logs = [out / f"cells/tiny-here-s{seed}/metrics.jsonl" for seed in (1, 2)]

    process = start(*command)
    until(lambda: any(log.exists() for log in logs))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    study = study_file.load(path)

    def alive():
        return any(study_directory.state(out, one.id).alive() for one in study.cells())

    until(lambda: not alive())

    process = start(*command)
    until(alive)  # the logs may be long enough already
    until(lambda: any(len(log.read_bytes().splitlines()) > 5 for log in logs if log.exists()))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    shown = json.loads(harness("study", "status", out, "--json").stdout)
    assert shown["states"] == {"stopped": 2, "failed": 2}, shown

    ended = harness(*command)
    assert_one_line_error(ended, 4, "2 of 4 cells failed", "what went wrong", "study status")
    assert "failed: tiny-bad-s1: " in ended.stderr
    assert len((tmp_path / "fails4.notes").read_text().splitlines()) >= 4  # tried again
    good = study.cells()[2:]
    assert all(study_directory.state(out, one.id).done for one in good)
    found = one_cell.cell(study, out, good[1], features)  # of both: tests/faults
    alone = replace(found, directory=tmp_path / "alone")
    assert cells.train(alone).code == 0
    assert bits(alone.directory) == bits(found.directory)


def test_no_more_cells_at_a_time_than_there_are_processors_and_devices_for(tmp_path, monkeypatch):
    monkeypatch.setattr(container_limits, "usable", lambda: 8.0)

    def study(*more):
        return study_file.load(write_study(tmp_path, *more))

    assert len(study_run.places(study(), None, ())) == 8
    two = study("threads = 2")
    assert study_run.places(two, 3, ()) == [{}] * 3
    with pytest.raises(UsageError, match="more than 8 processors have room for; give --jobs 4"):
        study_run.places(two, 5, ())
    assert study_run.places(two, None, (4, 6)) == [
        {"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}]
    pairs = study("threads = 2", "nproc = 2")
    assert study_run.places(pairs, None, (0, 1, 2, 3, 4)) == [
        {"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    with pytest.raises(UsageError, match="takes 2 devices, and 1 are named"):
        study_run.places(pairs, None, (0,))
    with pytest.raises(UsageError, match="2 devices have room for; give --jobs 2"):
        study_run.places(two, 3, (0, 1))
    assert len(study_run.places(study("threads = 16"), None, ())) == 1
    with pytest.raises(UsageError, match="--executor slurm"):
        study_run.places(study("nnodes = 2"), None, ())
